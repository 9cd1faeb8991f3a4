//! `mill route`: what leads into the cluster.

use super::table::{self, NONE, Table};
use super::{Context, error::CliError};
use crate::api::wire::{PauseRequest, RouteView, TrafficView};
use argh::{ArgsInfo, FromArgs};

/// List, pause and resume the routes.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "route", help_triggers("-h", "--help"))]
pub struct RouteArgs {
    /// what to do
    #[argh(subcommand)]
    pub command: RouteCommand,
}

/// What `mill route` does.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub enum RouteCommand {
    /// `mill route list`.
    List(ListArgs),
    /// `mill route pause`.
    Pause(PauseArgs),
    /// `mill route resume`.
    Resume(ResumeArgs),
}

/// List the routes, with the requests that they got.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help"), example = "mill route list")]
pub struct ListArgs {}

/// Answer every request for a host with a page of maintenance, on every node.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "pause",
    help_triggers("-h", "--help"),
    example = "mill route pause app.example.com --message 'Back at noon'"
)]
pub struct PauseArgs {
    /// the host, as mill route list shows it
    #[argh(positional)]
    pub host: String,
    /// what clients are told, one line
    #[argh(option)]
    pub message: Option<String>,
}

/// Let requests for a paused host through again.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "resume",
    help_triggers("-h", "--help"),
    example = "mill route resume app.example.com"
)]
pub struct ResumeArgs {
    /// the host, as mill route list shows it
    #[argh(positional)]
    pub host: String,
}

pub(super) async fn run(args: RouteArgs, context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    let (routes, changed) = match args.command {
        RouteCommand::List(_) => (client.routes().await?, None),
        RouteCommand::Pause(PauseArgs { host, message }) => {
            let routes = client.pause(&host, &PauseRequest { message }).await?;
            (routes, Some(format!("{host}  paused; end it: mill route resume {host}")))
        }
        RouteCommand::Resume(ResumeArgs { host }) => {
            (client.resume(&host).await?, Some(format!("{host}  resumed")))
        }
    };
    if context.ui.json {
        return context.ui.document(&routes);
    }
    if let Some(changed) = changed {
        return context.ui.print(&changed);
    }
    context.ui.print(&list(&routes).render(context.ui))?;
    context.note_stale(&client);
    Ok(())
}

fn list(routes: &[RouteView]) -> Table {
    let mut table = Table::new(&["ROUTE", "SERVICE", "HEALTHY", "REQ/s", "ERRORS", "P99"]);
    for route in routes {
        let (leads, healthy) = match &route.to {
            Some(to) => (to.clone(), NONE.to_owned()),
            None => {
                let port = route.port.as_ref().map(|port| format!(":{port}")).unwrap_or_default();
                (format!("{}{port}", route.service), route.healthy.to_string())
            }
        };
        let healthy = if route.paused.is_some() { "paused".to_owned() } else { healthy };
        table.row(vec![
            route.route.clone().into(),
            leads.into(),
            healthy.into(),
            rate(Some(&route.traffic)).into(),
            errors(&route.traffic).into(),
            p99(Some(&route.traffic)).into(),
        ]);
    }
    table
}

/// Requests a second, as they are shown.
pub(super) fn rate(traffic: Option<&TrafficView>) -> String {
    let rate = traffic.map(|traffic| traffic.requests_per_second);
    match rate {
        None => NONE.to_owned(),
        Some(rate) if rate > 0.0 && rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

/// The time within which 99 of 100 were answered.
pub(super) fn p99(traffic: Option<&TrafficView>) -> String {
    let time = traffic.and_then(|traffic| traffic.p99);
    time.map_or_else(|| NONE.to_owned(), table::short)
}

pub(super) fn errors(traffic: &TrafficView) -> String {
    if traffic.requests == 0 {
        return NONE.to_owned();
    }
    // Counts of a minute fit.
    let share = traffic.errors as f64 * 100.0 / traffic.requests as f64;
    format!("{share:.1}%")
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::api::wire::PauseView;
    use crate::cli::ps::tests::PLAIN;

    /// Some requests.
    pub fn traffic() -> TrafficView {
        TrafficView {
            requests_per_second: 212.4,
            requests: 12_000,
            errors: 60,
            p50: Some(0.002),
            p99: Some(0.0382),
            ..TrafficView::default()
        }
    }

    #[test]
    fn routes_show_where_they_lead_and_how_it_goes() {
        let web = RouteView {
            route: "app.example.com".to_owned(),
            host: "app.example.com".to_owned(),
            path: "/".to_owned(),
            service: "web".to_owned(),
            app: "shop".to_owned(),
            port: None,
            to: None,
            paused: None,
            healthy: 2,
            traffic: traffic(),
        };
        let admin = RouteView {
            route: "app.example.com/admin".to_owned(),
            port: Some("admin".to_owned()),
            traffic: TrafficView::default(),
            ..web.clone()
        };
        let www = RouteView {
            route: "www.example.com".to_owned(),
            to: Some("https://app.example.com".to_owned()),
            traffic: TrafficView { requests_per_second: 0.25, ..TrafficView::default() },
            ..web.clone()
        };
        let pause = PauseView { message: String::new(), since: "T".to_owned() };
        let old =
            RouteView { route: "z.example.com".to_owned(), paused: Some(pause), ..admin.clone() };
        let expected = "\
ROUTE                  SERVICE                  HEALTHY  REQ/s  ERRORS  P99
app.example.com        web                      2        212    0.5%    38ms
app.example.com/admin  web:admin                2        0      -       -
www.example.com        https://app.example.com  -        0.2    -       -
z.example.com          web:admin                paused   0      -       -
";
        assert_eq!(list(&[web, admin, www, old]).render(PLAIN), expected);
    }
}

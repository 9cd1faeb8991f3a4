//! `mill image`: the images of the cluster.

mod login;

pub(super) use login::hidden;

use super::client::Call;
use super::table::Table;
use super::{Context, error::CliError};
use crate::api::wire::ImageView;
use crate::units::Bytes;
use argh::{ArgsInfo, FromArgs};
use futures_util::TryStreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

/// Load, list and remove images; log in to registries.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "image", help_triggers("-h", "--help"))]
pub struct ImageArgs {
    /// what to do
    #[argh(subcommand)]
    pub command: ImageCommand,
}

/// What `mill image` does.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub enum ImageCommand {
    /// `mill image load`.
    Load(LoadArgs),
    /// `mill image list`.
    List(ListArgs),
    /// `mill image remove`.
    Remove(RemoveArgs),
    /// `mill image login`.
    Login(login::LoginArgs),
    /// `mill image logout`.
    Logout(login::LogoutArgs),
    /// `mill image logins`.
    Logins(login::LoginsArgs),
}

/// Load an archive for all nodes: OCI's layout or docker save's, perhaps compressed with gzip.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "load",
    help_triggers("-h", "--help"),
    example = "mill image load web.tar"
)]
pub struct LoadArgs {
    /// the archive; - is standard input
    #[argh(positional)]
    pub file: String,
}

/// List the images of the cluster, and which nodes have them.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help"), example = "mill image list")]
pub struct ListArgs {}

/// Remove images from every node.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "remove",
    help_triggers("-h", "--help"),
    example = "mill image remove web:v1"
)]
pub struct RemoveArgs {
    /// references as mill image list shows them
    #[argh(positional)]
    pub references: Vec<String>,
}

pub(super) async fn run(args: ImageArgs, context: &Context) -> Result<(), CliError> {
    match args.command {
        ImageCommand::Load(args) => load(args, context).await,
        ImageCommand::List(_) => list(context).await,
        ImageCommand::Remove(args) => remove(args, context).await,
        ImageCommand::Login(args) => login::login(args, context).await,
        ImageCommand::Logout(args) => login::logout(args, context).await,
        ImageCommand::Logins(_) => login::list(context).await,
    }
}

async fn load(args: LoadArgs, context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    let call = Call::new(Method::POST, "/v1/images").without_timeout();
    let call = if args.file == "-" {
        call.stream("application/x-tar", body(tokio::io::stdin()))
    } else {
        let failed = |source| CliError::Read { path: args.file.clone().into(), source };
        let file = tokio::fs::File::open(&args.file).await.map_err(failed)?;
        let about = file.metadata().await.map_err(failed)?;
        if about.is_dir() {
            let message = format!("{} is a directory, not an image", args.file);
            let hint = "Pack one: docker save IMAGE | mill image load -";
            return Err(CliError::usage(message, hint));
        }
        let length = about.len();
        call.header("content-length", length.to_string()).stream("application/x-tar", body(file))
    };
    let answer: Value = client.call(call).await?;
    if context.ui.json {
        return context.ui.document(&answer);
    }
    for image in loaded(&answer) {
        context.ui.print(&format!("{}  {}", image.reference, image.digest))?;
    }
    Ok(())
}

/// One image or several.
fn loaded(answer: &Value) -> Vec<ImageView> {
    let several = serde_json::from_value(answer.clone());
    several
        .or_else(|_| serde_json::from_value(answer.clone()).map(|one| vec![one]))
        .unwrap_or_default()
}

fn body(from: impl AsyncRead + Send + Sync + 'static) -> super::client::RequestBody {
    let stream = ReaderStream::with_capacity(from, 64 << 10).map_ok(Frame::data);
    BodyExt::boxed(StreamBody::new(stream))
}

async fn list(context: &Context) -> Result<(), CliError> {
    let images = context.client()?.images().await?;
    if context.ui.json {
        return context.ui.document(&images);
    }
    let mut table = Table::new(&["IMAGE", "DIGEST", "SIZE", "FROM", "USED", "NODES"]);
    for image in images {
        let digest: String = image.digest.chars().take("sha256:".len() + 12).collect();
        table.row(vec![
            image.reference.into(),
            digest.into(),
            Bytes(image.size).to_string().into(),
            if image.loaded { "archive" } else { "registry" }.into(),
            if image.used { "yes" } else { "no" }.into(),
            if image.nodes.is_empty() { "-".to_owned() } else { image.nodes.join(",") }.into(),
        ]);
    }
    context.ui.print(&table.render(context.ui))
}

async fn remove(args: RemoveArgs, context: &Context) -> Result<(), CliError> {
    if args.references.is_empty() {
        return Err(CliError::usage("Which image?", "mill image list shows them"));
    }
    let client = context.client()?;
    let mut removed = Vec::new();
    for reference in &args.references {
        client.delete_image(reference).await?;
        if context.ui.json {
            removed.push(json!({ "reference": reference, "deleted": true }));
        } else {
            context.ui.print(&format!("{reference}  removed"))?;
        }
    }
    if context.ui.json { context.ui.document(&removed) } else { Ok(()) }
}

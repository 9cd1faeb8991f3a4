//! Mill's own answers and what a route says of itself.

use super::support::{Site, time_passes};
use crate::actors::proxy::shared::Settings;
use crate::cidr::Cidr;
use crate::fsm::model::Health;

#[tokio::test]
async fn whose_error_it_is_stands_in_it() {
    let site = Site::new(0, "route \"a.example\"").await;
    let none = site.ask("GET / HTTP/1.1|Host: b.example||").await;
    assert_eq!((none.status, none.body.as_str()), (404, "404 No service has this address\n"));
    assert_eq!(none.header("mill-error").as_deref(), Some("no-route"));
    let json = "GET / HTTP/1.1|Host: a.example|Accept: application/json||";
    let ill = site.ask(json).await;
    assert_eq!(ill.status, 503);
    assert_eq!(ill.header("retry-after").as_deref(), Some("2"));
    let document: serde_json::Value = serde_json::from_str(&ill.body).unwrap();
    assert_eq!(document["error"]["code"], "no-healthy-replica");
    let mut kept = site.client().await;
    for _ in 0..2 {
        kept.send("GET / HTTP/1.1|Host: b.example||").await;
        assert_eq!(kept.answer().await.status, 404);
    }
    kept.send("HEAD / HTTP/1.1|Host: b.example||GET /x HTTP/1.1|Host: b.example||").await;
    assert_eq!(kept.answer_to_head().await.status, 404);
    assert_eq!(kept.answer().await.status, 404);
}

#[tokio::test]
async fn a_request_waits_for_a_replica_as_long_as_the_route_says() {
    let mut site = Site::with(0, 1, "route \"a.example\" wait=\"10s\"", Settings::default()).await;
    let mut client = site.client().await;
    client.send("GET / HTTP/1.1|Host: a.example||").await;
    time_passes(150).await;
    site.case.run("web", 0, [127, 0, 0, 2], Health::Healthy);
    site.show();
    assert_eq!(client.answer().await.body, "s0");
}

#[tokio::test]
async fn a_prefix_is_taken_off_and_dots_reach_no_other_route() {
    let site = Site::new(
        1,
        "route \"a.example\" path=\"/api\" strip=#true
         route \"a.example\" path=\"/secret\" allow=\"203.0.113.0/24\"
         route \"a.example\" path=\"/plain\"",
    )
    .await;
    let line = |answer: super::support::Answer| answer.body.lines().next().unwrap().to_owned();
    assert_eq!(line(site.get("/api/x/head?q=1").await), "GET /x/head?q=1 HTTP/1.1");
    assert_eq!(line(site.get("/plain//y/head").await), "GET /plain//y/head HTTP/1.1");
    assert_eq!(line(site.get("/plain/y/../head").await), "GET /plain/head HTTP/1.1");
    let absolute = "GET http://a.example/plain/head HTTP/1.1|Host: a.example||";
    assert_eq!(line(site.ask(absolute).await), "GET /plain/head HTTP/1.1");
    for path in ["/secret", "/plain/../secret", "//secret/x", "/plain/%2e%2e/secret", "/%73ecret"] {
        assert_eq!(site.get(path).await.status, 403, "{path}");
    }
    for path in ["/plain/..%2fsecret", "/plain/..%5Csecret", "/../secret"] {
        assert_eq!(site.get(path).await.status, 400, "{path}");
    }
    assert_eq!(site.get("/plainer").await.status, 404);
}

#[tokio::test]
async fn a_route_redirects_limits_and_dresses() {
    let site = Site::new(
        1,
        "route \"a.example\" to=\"https://www.a.example\"
         route \"b.example\" limit=\"3/m\"
         route \"c.example\" body-max=\"1K\"
         route \"d.example\" { set \"X-Frame-Options\" \"DENY\"; remove \"Server\" }
         route \"*.e.example\"",
    )
    .await;
    let moved = site.get("/x?y=1").await;
    assert_eq!(moved.status, 308);
    assert_eq!(moved.header("location").as_deref(), Some("https://www.a.example/x?y=1"));
    let mut codes = Vec::new();
    for _ in 0..5 {
        codes.push(site.ask("GET / HTTP/1.1|Host: b.example||").await.status);
    }
    assert_eq!(codes, [200, 200, 200, 429, 429]);
    let large = "POST /sum HTTP/1.1|Host: c.example|Content-Length: 1001||";
    assert_eq!(site.ask(large).await.status, 413);
    let large = format!(
        "POST /sum HTTP/1.1|Host: c.example|Transfer-Encoding: chunked||400|{}|0||",
        "x".repeat(1024)
    );
    assert_eq!(site.ask(&large).await.status, 413);
    let dressed = site.ask("GET / HTTP/1.1|Host: d.example||").await;
    assert_eq!(dressed.header("x-frame-options").as_deref(), Some("DENY"));
    assert_eq!(dressed.header("server"), None);
    assert_eq!(site.ask("GET / HTTP/1.1|Host: x.e.example||").await.status, 200);
}

#[tokio::test]
async fn a_client_stays_with_its_replica() {
    let site = Site::new(3, "route \"a.example\" sticky=#true").await;
    let first = site.get("/").await;
    let cookie = first.header("set-cookie").unwrap();
    let cookie = cookie.split(';').next().unwrap();
    for _ in 0..12 {
        let request = format!("GET / HTTP/1.1|Host: a.example|Cookie: x=y; {cookie}||");
        let again = site.ask(&request).await;
        assert_eq!((again.body, again.head.contains("set-cookie")), (first.body.clone(), false));
    }
}

#[tokio::test]
async fn answers_are_compressed_for_those_that_can_read_it() {
    let site = Site::new(1, "route \"a.example\" compress=#true").await;
    let asks = "GET /large HTTP/1.1|Host: a.example|Accept-Encoding: gzip||";
    let mut client = site.client().await;
    client.send(asks).await;
    let mut seen = String::new();
    while !seen.contains("\r\n\r\n") {
        seen += &client.some().await;
    }
    assert!(seen.to_lowercase().contains("content-encoding: gzip"), "{seen}");
    assert_eq!(site.get("/large").await.body.len(), 1 << 20);
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let trusted = vec![Cidr::parse("127.0.0.0/8").unwrap()];
    let settings = Settings { trusted, ..Settings::default() };
    let route = "route \"a.example\" allow=\"203.0.113.0/24\"";
    let site = Site::with(1, 1, route, settings).await;
    let from =
        |address: &str| format!("GET / HTTP/1.1|Host: a.example|X-Forwarded-For: {address}||");
    assert_eq!(site.ask(&from("203.0.113.7")).await.status, 200);
    assert_eq!(site.ask(&from("198.51.100.7")).await.status, 403);
}

#[tokio::test]
async fn a_trusted_proxy_may_say_whose_connection_it_is() {
    let trusted = vec![Cidr::parse("127.0.0.0/8").unwrap()];
    let settings = Settings { trusted, proxy_protocol: true, ..Settings::default() };
    let site = Site::with(1, 1, "route \"a.example\"", settings).await;
    let asks = "GET /head HTTP/1.1|Host: a.example||";
    let mut client = site.client().await;
    client.send(&format!("PROXY TCP4 203.0.113.7 192.0.2.1 4711 80|{asks}")).await;
    for _ in 0..2 {
        let told = client.answer().await.body.to_lowercase();
        assert!(told.contains("x-forwarded-for: 203.0.113.7\r\n"), "{told}");
        client.send(asks).await;
    }
    let told = site.ask(&format!("PROXY UNKNOWN|{asks}")).await.body.to_lowercase();
    assert!(told.contains("x-forwarded-for: 127.0.0.1\r\n"), "{told}");
    assert_eq!(site.ask(asks).await.status, 0, "who says nothing is not heard");
    let forged = "GET /head HTTP/1.1|Host: a.example|X-Forwarded-For: 198.51.100.1||";
    let told = site.ask(&format!("PROXY TCP4 203.0.113.7 192.0.2.1 1 80|{forged}")).await.body;
    assert!(!told.contains("198.51.100.1"), "{told}");
}

#[tokio::test]
async fn requests_are_counted() {
    let site = Site::new(1, "route \"a.example\"").await;
    for _ in 0..3 {
        site.get("/").await;
    }
    site.ask("GET / HTTP/1.1|Host: b.example||").await;
    let mut registry = prometheus_client::registry::Registry::default();
    site.shared.traffic.register(&mut registry);
    let text = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    };
    let counted = |text: &str| {
        text.contains("mill_proxy_requests_total{route=\"a.example\",code=\"200\"} 3")
            && text.contains("mill_proxy_requests_total{route=\"\",code=\"404\"} 1")
            && text.contains("mill_proxy_latency_seconds_count{route=\"a.example\"} 3")
    };
    site.until(|_| counted(&text())).await;
}

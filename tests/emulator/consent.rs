//! Tests the consent page.

use reqwest::StatusCode;

use crate::support::*;

const QUERY: &str = "client_id=my%3Cb%3Eapp\
    &redirect_uri=http%3A%2F%2F127.0.0.1%3A9%2Fback%3Fx%3D1\
    &scopes=read_balance,write_send_payment&state=s%261";

#[tokio::test]
async fn the_decision_is_sent_to_the_redirect_uri_with_the_state() {
    let client = start().await;
    let page =
        client.http.get(client.url(&format!("/oauth/connect?{QUERY}"))).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    let page = page.text().await.unwrap();
    assert!(page.contains("my&lt;b&gt;app") && !page.contains("<b>app"), "{page}");
    assert!(page.contains("Allow") && page.contains("Deny") && page.contains("write_send_payment"));

    let decide = |decision: &'static str| {
        let request = client.http.post(client.url("/oauth/connect"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(format!("{QUERY}&decision={decision}")).send()
    };
    let denied = decide("deny").await.unwrap();
    assert_eq!(denied.status(), StatusCode::SEE_OTHER);
    assert_eq!(
        denied.headers()["location"],
        "http://127.0.0.1:9/back?x=1&error=access_denied&state=s%261"
    );

    let allowed = decide("allow").await.unwrap();
    let target = url::Url::parse(allowed.headers()["location"].to_str().unwrap()).unwrap();
    let get = |name: &str| {
        target.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    assert_eq!((get("x").as_deref(), get("state").as_deref()), (Some("1"), Some("s&1")));
    let query = format!("grant_type=authorization_code&code={}", get("code").unwrap());
    assert_eq!(
        client.token_request(&query, Some(basic("other", "s"))).await.1["error"],
        "invalid_grant"
    );

    let allowed = decide("allow").await.unwrap();
    let target = url::Url::parse(allowed.headers()["location"].to_str().unwrap()).unwrap();
    let code = target.query_pairs().find(|(key, _)| key == "code").unwrap().1.into_owned();
    let query = format!("grant_type=authorization_code&code={code}");
    let (status, reply) = client.token_request(&query, Some(basic("my<b>app", "s"))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(reply["scope"], "read_balance write_send_payment");
}

#[tokio::test]
async fn redirects_go_only_to_loopback() {
    let client = start().await;
    for redirect in [
        "https://evil.example/",
        "http://evil.example/",
        "http://127.0.0.1.evil.example/",
        "http://localhost@evil.example/",
        "http://user:pw@localhost/",
        "https://localhost/",
        "javascript:alert(1)",
        "/here",
        "",
    ] {
        let encoded: String = url::form_urlencoded::byte_serialize(redirect.as_bytes()).collect();
        let query =
            format!("client_id=a&redirect_uri={encoded}&scopes=read_balance&decision=allow");
        for request in
            [client.http.get(client.url(&format!("/oauth/connect?{query}"))), post(&client, &query)]
        {
            assert_eq!(
                request.send().await.unwrap().status(),
                StatusCode::BAD_REQUEST,
                "{redirect}"
            );
        }
    }
    for redirect in ["http://localhost:1/", "http://127.0.0.2/a", "http://[::1]:8080/b"] {
        let query =
            format!("client_id=a&redirect_uri={redirect}&scopes=read_balance&decision=allow");
        assert_eq!(
            post(&client, &query).send().await.unwrap().status(),
            StatusCode::SEE_OTHER,
            "{redirect}"
        );
    }
    let unknown = "client_id=a&redirect_uri=http://localhost/&scopes=fly";
    assert_eq!(post(&client, unknown).send().await.unwrap().status(), StatusCode::BAD_REQUEST);
}

fn post(client: &RawClient, form: &str) -> reqwest::RequestBuilder {
    let request = client.http.post(client.url("/oauth/connect"));
    request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned())
}

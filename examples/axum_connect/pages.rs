//! The pages. Their script is a file of its own, so that the policy forbids any other.

use axum::http::header;
use axum::response::{Html, IntoResponse};
use payman_sdk::web::Problem;

const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// Returns the page of a user whose account is not connected.
pub fn stranger() -> impl IntoResponse {
    page("<p>Your Payman account is not connected.</p>\n<p><a href=\"/connect\">Connect it</a></p>")
}

/// Returns the page of a user who comes back from the consent page without a code.
pub fn not_connected(problem: &Problem) -> impl IntoResponse {
    page(&format!(
        "<p>{} {}</p>\n<p><a href=\"/connect\">Try again</a></p>",
        escape(problem.title()),
        escape(problem.detail())
    ))
}

/// Returns the page of a connected user: a form, whose answers the script shows.
pub fn connected() -> impl IntoResponse {
    page(
        "<form id=\"ask\">\n<label>Ask the agent <input name=\"text\" size=\"60\" required \
         placeholder=\"How much money do I have in my wallet?\"></label>\n<button>Ask</button>\n\
         </form>\n<pre id=\"answer\" role=\"status\"></pre>\n\
         <p><button id=\"disconnect\">Disconnect my account</button></p>\n\
         <noscript><p>This page needs JavaScript.</p></noscript>\n\
         <script src=\"/page.js\" defer></script>",
    )
}

pub async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page.js"))
}

fn page(body: &str) -> impl IntoResponse + use<> {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>My service</title></head>\n<body>\n<main>\n<h1>My service</h1>\n{body}\n</main>\n\
         </body>\n</html>\n"
    );
    let headers = [(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-store")];
    (headers, Html(html))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

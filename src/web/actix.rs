//! Responses for actix-web handlers (feature `actix-web`).

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError};
use futures::Stream;

use super::problem::{self, Problem};
use super::{NO_STORE, SSE_HEADERS, ServerEvent, ServerEvents, SseBody, VisitorReply, sse};
use crate::error::Error;
use crate::reply::Reply;
use crate::stream::AskStream;

/// Responds with the reply as a [`VisitorReply`], with status 200 whatever the task's state. Return
/// `web::Json(reply)` to send the session's id and the metadata too. Feature `actix-web`.
impl Responder for Reply {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        VisitorReply::from(self).respond_to(request)
    }
}

/// Responds with JSON, with status 200 whatever the task's state. Feature `actix-web`.
impl Responder for VisitorReply {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Ok().insert_header(NO_STORE).json(self)
    }
}

/// Responds with a [`Problem`] and its status, and writes the cause to the log (`tracing`): at
/// `WARN` for a 5xx, else at `DEBUG`. Feature `actix-web`.
impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        status_of(&Problem::from(self))
    }

    fn error_response(&self) -> HttpResponse {
        let problem = Problem::from(self);
        problem::log(self, &problem);
        respond(&problem)
    }
}

/// Responds with `application/problem+json`, the problem's status and `Retry-After`. Feature
/// `actix-web`.
impl Responder for Problem {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        respond(&self)
    }
}

fn status_of(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn respond(problem: &Problem) -> HttpResponse {
    let mut response = HttpResponse::build(status_of(problem));
    response.insert_header(NO_STORE).insert_header((header::CONTENT_TYPE, problem::MEDIA_TYPE));
    if let Some(wait) = problem.retry_after() {
        response.insert_header((header::RETRY_AFTER, wait.as_secs()));
    }
    response.json(problem)
}

/// Responds with server-sent events as they come. When the visitor leaves, the connection to the
/// platform is closed. Feature `actix-web`.
impl Responder for AskStream {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        ServerEvents::from(self).respond_to(request)
    }
}

/// Responds with server-sent events as they come. Feature `actix-web`.
impl Responder for ServerEvents {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        sse(self).respond_to(request)
    }
}

/// Responds with server-sent events as they come. Feature `actix-web`.
impl<S: Stream<Item = ServerEvent> + Unpin + 'static> Responder for SseBody<S> {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        for header in SSE_HEADERS {
            response.insert_header(header);
        }
        response.streaming(self)
    }
}

//! The `Cors` configuration of a function URL: Lambda itself tells browsers which
//! pages may call.

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, Response};

use crate::template::CorsSpec;

/// Whether a browser asks what a page may do.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight, for which no function runs.
pub(super) fn preflight(cors: &CorsSpec, request: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    if add_common(cors, request, headers) {
        add_list(headers, ACCESS_CONTROL_ALLOW_METHODS, &cors.allow_methods);
        add_list(headers, ACCESS_CONTROL_ALLOW_HEADERS, &cors.allow_headers);
        headers.extend(
            cors.max_age
                .map(|age| (ACCESS_CONTROL_MAX_AGE, age.as_secs().into())),
        );
    }
    response
}

/// Adds what the page that called may see. A function's own headers stay, too, so
/// one that both set appears twice.
pub(super) fn add(cors: &CorsSpec, request: &HeaderMap, response: &mut HeaderMap) {
    if add_common(cors, request, response) {
        add_list(
            response,
            ACCESS_CONTROL_EXPOSE_HEADERS,
            &cors.expose_headers,
        );
    }
}

/// Returns whether the request's origin may call.
fn add_common(cors: &CorsSpec, request: &HeaderMap, response: &mut HeaderMap) -> bool {
    let Some(origin) = request.get(ORIGIN) else {
        return false;
    };
    let allows = |allowed: &String| allowed == "*" || allowed.as_bytes() == origin.as_bytes();
    if !cors.allow_origins.iter().any(allows) {
        return false;
    }
    response.append(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    response.append(VARY, HeaderValue::from_static("Origin"));
    if cors.allow_credentials {
        response.append(
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
    true
}

fn add_list(headers: &mut HeaderMap, name: HeaderName, items: &[String]) {
    // The template reader has checked the items.
    if let Ok(value) = HeaderValue::try_from(items.join(","))
        && !items.is_empty()
    {
        headers.append(name, value);
    }
}

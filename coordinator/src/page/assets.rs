//! The page's own files, compiled in. They contain no data, so everybody who reaches the port may read them.

use crate::http_status::http_response;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use tonic::Status;

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The name, media type and bytes of a file.
type PageFile = (&'static str, &'static str, &'static [u8]);

macro_rules! file {
    ($name:literal, $kind:expr) => {
        ($name, $kind, include_bytes!(concat!("../../page/", $name)))
    };
}

const FILES: &[PageFile] = &[
    file!("index.html", HTML),
    file!("style.css", CSS),
    file!("icon.svg", SVG),
    file!("api.js", JAVASCRIPT),
    file!("app.js", JAVASCRIPT),
    file!("dom.js", JAVASCRIPT),
    file!("files.js", JAVASCRIPT),
    file!("format.js", JAVASCRIPT),
    file!("live.js", JAVASCRIPT),
    file!("nads.js", JAVASCRIPT),
    file!("pictures.js", JAVASCRIPT),
    file!("progress.js", JAVASCRIPT),
    file!("shards.js", JAVASCRIPT),
    file!("stream.js", JAVASCRIPT),
    file!("sweep.js", JAVASCRIPT),
    file!("sweeps.js", JAVASCRIPT),
    file!("table.js", JAVASCRIPT),
    file!("theme.js", JAVASCRIPT),
    file!("workers.js", JAVASCRIPT),
];

/// Only the page's own scripts run, and nothing is sent to other hosts.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn index(headers: HeaderMap) -> Response {
    send("index.html", &headers)
}

pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    send(&name, &headers)
}

fn send(name: &str, headers: &HeaderMap) -> Response {
    let Some((_, kind, bytes)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return http_response(&Status::not_found(format!("the page has no file {name:?}")));
    };
    let tag = format!("\"{}\"", &blake3::hash(bytes).to_hex()[..32]);
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let common = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, *kind)], *bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every file that a file of the page refers to is one of the page's.
    #[test]
    fn nothing_is_missing_and_nothing_comes_from_elsewhere() {
        for (name, _, bytes) in FILES {
            let text = std::str::from_utf8(bytes).unwrap();
            for quote in ['"', '\''] {
                for part in text.split(quote) {
                    let wanted = part.strip_prefix("/page/").or_else(|| part.strip_prefix("./")).unwrap_or("");
                    let known = wanted.is_empty() || FILES.iter().any(|(known, ..)| *known == wanted);
                    assert!(known || wanted.contains(char::is_whitespace), "{name} refers to {part}");
                }
            }
            let foreign = text
                .split("http")
                .skip(1)
                .find(|rest| (rest.starts_with("://") || rest.starts_with("s://")) && !rest.contains("www.w3.org"));
            assert!(foreign.is_none(), "{name}: http{}", &foreign.unwrap()[..40.min(foreign.unwrap().len())]);
        }
    }

    #[test]
    fn what_a_browser_has_is_not_sent_again() {
        let first = send("app.js", &HeaderMap::new());
        assert_eq!(
            (first.status(), &first.headers()[header::CONTENT_TYPE]),
            (StatusCode::OK, &JAVASCRIPT.parse().unwrap())
        );
        let tag = first.headers()[header::ETAG].clone();
        let again = send("app.js", &HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(send("../Cargo.toml", &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
    }
}

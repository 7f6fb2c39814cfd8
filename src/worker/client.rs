//! Which client family a handshake comes from, as far as its request shows with certainty.
//!
//! Only one question matters: is it `socket.io-client` for JavaScript, whose handlers take one more
//! argument without harm? What is read here passes reverse proxies unchanged: the order of the
//! query's parameters, and headers that are not between two hops (`Connection`, `Upgrade` and `Host`
//! are, and are not looked at). Recorded from socket.io-client 4.8 on Node and in browsers,
//! python-socketio 5 (sync and async) and the sources of rust_socketio 0.6, 2026-11-21.

use axum::http::header::{self, HeaderMap};

/// What the npm package `ws` asks for as a client.
const WS_EXTENSIONS: &str = "permessage-deflate; client_max_window_bits";

/// What the npm package `xmlhttprequest-ssl`, by which `socket.io-client` polls on Node, calls itself.
const NODE_POLLING: &str = "node-XMLHttpRequest";

/// Whether the request was certainly made by `socket.io-client` for JavaScript. `query` is the raw one.
///
/// - It writes `EIO=4&transport=…` in this order, behind the application's own parameters;
///   python-engineio the other way round.
/// - On Node it polls under a name of its own, and opens a WebSocket without a name but with exactly
///   the extensions of `ws`; tungstenite (rust_socketio) asks for none, other libraries say their name.
/// - A browser says it is one and sends headers that scripts outside of browsers have no reason for.
pub fn is_javascript(query: &str, headers: &HeaderMap) -> bool {
    if !names_transport_last(query) {
        return false;
    }
    let extensions = text(headers, header::SEC_WEBSOCKET_EXTENSIONS.as_str());
    match text(headers, header::USER_AGENT.as_str()) {
        None => !headers.contains_key(header::USER_AGENT) && extensions == Some(WS_EXTENSIONS),
        Some(NODE_POLLING) => true,
        Some(agent) => agent.starts_with("Mozilla/") && is_browser(headers, extensions.is_some()),
    }
}

/// `EIO=4` stands directly before `transport=`.
fn names_transport_last(query: &str) -> bool {
    let mut before = "";
    for parameter in query.split('&') {
        if parameter.starts_with("transport=") {
            return before == "EIO=4";
        }
        before = parameter;
    }
    false
}

/// Fetch metadata comes over secure connections and to the own machine; an origin with every WebSocket
/// and with requests to other origins; the page's address with the rest.
fn is_browser(headers: &HeaderMap, extensions: bool) -> bool {
    let has = |name: &str| headers.contains_key(name);
    if has("sec-websocket-key") {
        return has("origin") && (extensions || has("sec-fetch-mode"));
    }
    has("sec-fetch-mode") || (has("accept-language") && (has("origin") || has("referer")))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = lines.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()));
        pairs.collect::<HeaderMap>()
    }

    const KEY: (&str, &str) = ("sec-websocket-key", "a5PVAFiak2J/+v2WmKTApQ==");
    const WS: (&str, &str) = ("sec-websocket-extensions", WS_EXTENSIONS);
    const CHROME: (&str, &str) = (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    );

    #[test]
    fn node_and_browsers_are_recognised() {
        let websocket = "EIO=4&transport=websocket";
        let polling = "EIO=4&transport=polling&t=io35hho3";
        for (query, lines) in [
            (websocket, &[KEY, WS][..]),
            ("token=abc&username=x&EIO=4&transport=websocket", &[KEY, WS, ("x-forwarded-for", "10.0.0.1")]),
            ("EIO=4&transport=websocket&sid=abc", &[KEY, WS]),
            (polling, &[("user-agent", NODE_POLLING), ("accept", "*/*")]),
            (websocket, &[KEY, WS, CHROME, ("origin", "http://localhost:4000")]),
            (websocket, &[KEY, CHROME, ("origin", "http://a.example"), ("sec-fetch-mode", "websocket")]),
            (polling, &[CHROME, ("sec-fetch-mode", "cors")]),
            (polling, &[CHROME, ("accept-language", "ko"), ("referer", "http://10.0.0.1/")]),
        ] {
            assert!(is_javascript(query, &headers(lines)), "{query} {lines:?}");
        }
    }

    #[test]
    fn nobody_else_is() {
        let websocket = "EIO=4&transport=websocket";
        let python = "transport=websocket&EIO=4&t=1795272124.5377686";
        for (query, lines) in [
            // python-socketio: websocket-client, requests, aiohttp.
            (python, &[KEY, ("origin", "http://127.0.0.1:35363")][..]),
            ("transport=polling&EIO=4&t=1.5", &[("user-agent", "python-requests/2.34.2")]),
            (python, &[KEY, ("user-agent", "Python/3.11 aiohttp/3.14.5")]),
            // The same with everything else of a browser.
            (python, &[KEY, WS, CHROME, ("origin", "http://a"), ("sec-fetch-mode", "websocket")]),
            (python, &[KEY, WS]),
            // rust_socketio: tungstenite, reqwest.
            (websocket, &[KEY]),
            ("EIO=4&transport=polling&t=1795272124", &[("accept", "*/*")]),
            // Dart, Java, Swift, C++, other names.
            (websocket, &[KEY, WS, ("user-agent", "Dart/3.5 (dart:io)")]),
            (
                websocket,
                &[KEY, ("sec-websocket-extensions", "permessage-deflate"), ("user-agent", "okhttp/4.12.0")],
            ),
            (
                websocket,
                &[
                    KEY,
                    (
                        "sec-websocket-extensions",
                        "permessage-deflate; client_max_window_bits; server_max_window_bits=15",
                    ),
                ],
            ),
            (websocket, &[KEY, ("user-agent", "WebSocket++/0.8.2")]),
            (websocket, &[KEY, WS, ("user-agent", "")]),
            (websocket, &[KEY, CHROME]),
            ("EIO=4&transport=polling", &[CHROME]),
            ("EIO=3&transport=websocket", &[KEY, WS]),
            ("EIO=4&x=1&transport=websocket", &[KEY, WS]),
            ("", &[KEY, WS]),
        ] {
            assert!(!is_javascript(query, &headers(lines)), "{query} {lines:?}");
        }
    }
}

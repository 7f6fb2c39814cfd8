//! Whose pages may connect: the `Origin` header against the configuration.

use axum::http::header::{self, HeaderMap};

/// Same origin, loopback, and what `allowed_origins` lists; a request without `Origin` comes from
/// no page.
pub fn allowed(headers: &HeaderMap, listed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    if listed.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let Some((_, authority)) = origin.split_once("://") else {
        return false;
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) || is_loopback(authority)
}

fn is_loopback(authority: &str) -> bool {
    let name = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']').map_or("", |(name, _)| name),
        None => authority.split_once(':').map_or(authority, |(name, _)| name),
    };
    let address = name.parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(origin: &str, listed: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "chat.example:443".parse().unwrap());
        headers.insert(header::ORIGIN, origin.parse().unwrap());
        let listed: Vec<String> = listed.iter().map(|origin| (*origin).to_owned()).collect();
        allowed(&headers, &listed)
    }

    #[test]
    fn same_origin_loopback_and_listed() {
        assert!(allowed(&HeaderMap::new(), &[]));
        for origin in [
            "https://chat.example:443",
            "http://localhost:5173",
            "http://127.0.0.1",
            "http://127.1.2.3:80",
            "http://[::1]:3",
        ] {
            assert!(check(origin, &[]), "{origin}");
        }
        for origin in ["https://evil.example", "null", "http://localhost.evil.example", "http://128.0.0.1"] {
            assert!(!check(origin, &[]), "{origin}");
        }
        assert!(check("https://app.example", &["https://app.example"]));
        assert!(!check("http://app.example", &["https://app.example"]));
        assert!(check("null", &["*"]));
    }
}

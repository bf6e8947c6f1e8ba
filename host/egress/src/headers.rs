//! What of a stranger's headers passes. Requests by an allow-list: a person approves a URL, and what they do not see
//! must carry nothing. Responses by a deny-list: what concerns the connection or would make the reader keep state.

use http::{HeaderMap, HeaderName, header};

/// Longest value that passes, bytes: an `Accept` header has no use for more.
const LONGEST: usize = 256;

const PASSING: [HeaderName; 4] =
    [header::ACCEPT, header::ACCEPT_LANGUAGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE];

const DROPPED: [HeaderName; 11] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::ALT_SVC,
    header::SET_COOKIE,
    header::WWW_AUTHENTICATE,
    header::STRICT_TRANSPORT_SECURITY,
];

/// What of a component's request headers goes out. Credentials, cookies, encodings and headers that nobody needs for
/// reading a page do not.
#[must_use]
pub fn of_request(asked: impl IntoIterator<Item = (String, String)>) -> HeaderMap {
    asked
        .into_iter()
        .filter(|(_, value)| value.len() <= LONGEST)
        .filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, value.parse().ok()?)))
        .filter(|(name, _)| PASSING.contains(name))
        .collect()
}

/// What of a response's headers its reader gets.
#[must_use]
pub fn of_response(headers: &HeaderMap) -> HeaderMap {
    let named_by_connection = |name: &HeaderName| {
        headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(name.as_str())))
    };
    headers
        .iter()
        .filter(|(name, _)| {
            !DROPPED.contains(name)
                && !matches!(name.as_str(), "keep-alive" | "proxy-connection" | "set-cookie2")
                && !named_by_connection(name)
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_only_what_reading_needs() {
        let long = "x".repeat(LONGEST + 1);
        let names = [
            "Accept",
            "authorization",
            "Cookie",
            "x-api-key",
            "Host",
            "accept-encoding",
            "bad name",
            "If-None-Match",
        ];
        let asked = names.iter().map(|name| ((*name).to_owned(), "v".to_owned()));
        let got = of_request(
            asked.chain([("accept-language".to_owned(), long), ("accept".to_owned(), "a\nb".to_owned())]),
        );
        assert_eq!(got.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept", "if-none-match"]);
    }

    #[test]
    fn a_response_loses_its_connection_and_cookies() {
        let names = [
            "content-type",
            "set-cookie",
            "connection",
            "keep-alive",
            "x-hop",
            "location",
            "www-authenticate",
        ];
        let mut headers: HeaderMap =
            names.iter().map(|name| (name.parse().unwrap(), "v".parse().unwrap())).collect();
        headers.insert("connection", "close, X-Hop".parse().unwrap());
        let got = of_response(&headers);
        assert_eq!(got.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["content-type", "location"]);
    }
}

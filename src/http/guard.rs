//! Checks of a request before anything is read of its body: made for this server, and not by a foreign page.
//!
//! While nobody is asked who they are, a page that someone opens in a browser could reach the archive: by a name of its own that
//! resolves to this machine (so `Host` must be one of ours), or by a plain form (so a foreign `Origin` may change nothing).

use std::net::{IpAddr, SocketAddr};

use actix_web::dev::RequestHead;
use actix_web::http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, ORIGIN};
use actix_web::http::{Method, Version};

use crate::config::{PublicUrl, is_wildcard};
use crate::error::{Error, ErrorKind, Result};
use crate::http::body::too_large;

/// What requests are admitted.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Where the server listens.
    pub listen: IpAddr,
    /// By which other URL clients reach it.
    pub public_url: Option<PublicUrl>,
    /// Largest body of a request.
    pub request_size: u64,
}

impl Guard {
    /// Admits a request by its head.
    ///
    /// # Errors
    /// [`ErrorKind::Misdirected`] for a foreign host, [`ErrorKind::Forbidden`] for a foreign page, [`ErrorKind::TooLarge`] for a
    /// body that says it is over the limit.
    pub fn admit(&self, head: &RequestHead) -> Result<()> {
        let host = host_of(head)?;
        if let Some(host) = &host
            && !self.knows(host)
        {
            return Err(Error::new(
                ErrorKind::Misdirected,
                "this server does not answer for the host of the request; `--public-url` names the one by which clients reach it",
            ));
        }
        if changes_something(&head.method) {
            self.check_origin(&head.headers, host.as_ref())?;
        }
        let length = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > self.request_size) {
            return Err(too_large());
        }
        Ok(())
    }

    /// A loopback name, an address of the listener, or the public host.
    fn knows(&self, host: &Authority<'_>) -> bool {
        if let Ok(address) = host.name.trim_matches(['[', ']']).parse::<IpAddr>() {
            let address = address.to_canonical();
            // A page cannot take an address for its name, so on a listener for all of them any will do.
            if address.is_loopback() || is_wildcard(self.listen) || address == self.listen.to_canonical() {
                return true;
            }
        }
        let public = self.public_url.as_ref().and_then(|url| Authority::parse(url.authority()));
        host.name.eq_ignore_ascii_case("localhost")
            || public.is_some_and(|public| public.name.eq_ignore_ascii_case(host.name))
    }

    fn check_origin(&self, headers: &HeaderMap, host: Option<&Authority<'_>>) -> Result<()> {
        let Some(origin) = single(headers, &ORIGIN)? else { return Ok(()) };
        let public = self.public_url.as_ref().is_some_and(|url| url.origin().eq_ignore_ascii_case(origin));
        if public || host.is_some_and(|host| is_same(origin, host)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Forbidden, "a page of another origin may not change anything here"))
    }
}

fn changes_something(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// A host with or without a port.
#[derive(Clone, Copy, Debug)]
struct Authority<'a> {
    name: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let end = text.rfind(']').map_or(0, |end| end + 1);
        let (name, port) = match text[end..].find(':') {
            Some(at) => (&text[..end + at], Some(text[end + at + 1..].parse().ok()?)),
            None => (text, None),
        };
        (!name.is_empty()).then_some(Self { name, port })
    }
}

/// The host for which the request was made: of its target (HTTP/2, proxies), else of its `Host`.
///
/// HTTP/1.0 knows requests without one; load balancers still send them.
fn host_of(head: &RequestHead) -> Result<Option<Authority<'_>>> {
    let text = match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => single(&head.headers, &HOST)?,
    };
    match text {
        None if head.version < Version::HTTP_11 => Ok(None),
        None => Err(Error::bad_request("the request has no `Host`")),
        Some(text) => Authority::parse(text).map(Some).ok_or_else(|| Error::bad_request("the `Host` cannot be read")),
    }
}

/// The value of a header that may come once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name);
    let refused = || Error::bad_request(format!("the request has more than one `{name}`, or one that cannot be read"));
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(|text| Some(text.trim())).map_err(|_| refused()),
        (Some(_), Some(_)) => Err(refused()),
    }
}

/// Whether an origin is the host of the request. Which scheme the page was loaded by, a proxy in between may have changed.
fn is_same(origin: &str, host: &Authority<'_>) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    Authority::parse(authority).is_some_and(|origin| {
        origin.name.eq_ignore_ascii_case(host.name)
            && origin.port.unwrap_or(default_port) == host.port.unwrap_or(default_port)
    })
}

impl Guard {
    /// The guard of a listener.
    #[must_use]
    pub fn new(listen: SocketAddr, public_url: Option<PublicUrl>, request_size: u64) -> Self {
        Self { listen: listen.ip(), public_url, request_size }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn admit(listen: &str, public: Option<&str>, request: TestRequest) -> Option<ErrorKind> {
        let public = public.map(|url| PublicUrl::parse(url).unwrap());
        let guard = Guard::new(listen.parse().unwrap(), public, 100);
        let request = request.to_http_request();
        guard.admit(request.head()).err().map(|error| error.kind())
    }

    #[test]
    fn only_hosts_of_this_server_are_answered() {
        const LOCAL: &str = "127.0.0.1:8080";
        const ALL: &str = "0.0.0.0:8080";
        let misdirected = Some(ErrorKind::Misdirected);
        let cases = [
            (LOCAL, None, "127.0.0.1:8080", None),
            (LOCAL, None, "127.0.0.1", None),
            (LOCAL, None, "LocalHost:8080", None),
            (LOCAL, None, "127.9.8.7:1", None),
            (LOCAL, None, "[::1]:8080", None),
            (LOCAL, None, "[::ffff:127.0.0.1]", None),
            (LOCAL, None, "evil.example:8080", misdirected),
            (LOCAL, None, "localhost.evil.example", misdirected),
            (LOCAL, None, "10.0.0.5:8080", misdirected),
            (LOCAL, Some("https://pacs.example/x"), "pacs.example", None),
            (LOCAL, Some("https://pacs.example/x"), "PACS.example:8080", None),
            (LOCAL, Some("https://pacs.example/x"), "other.example", misdirected),
            (ALL, None, "10.0.0.5:8080", None),
            (ALL, None, "[fe80::1]:8080", None),
            (ALL, None, "pacs", misdirected),
            ("10.0.0.5:8080", None, "10.0.0.5:8080", None),
            ("10.0.0.5:8080", None, "10.0.0.6:8080", misdirected),
            ("[::1]:8080", None, "[::1]:8080", None),
            (LOCAL, None, "", Some(ErrorKind::BadRequest)),
            (LOCAL, None, ":8080", Some(ErrorKind::BadRequest)),
            (LOCAL, None, "localhost:port", Some(ErrorKind::BadRequest)),
        ];
        for (listen, public, host, expected) in cases {
            let request = TestRequest::default().insert_header((HOST, host));
            assert_eq!(admit(listen, public, request), expected, "{listen} {public:?} {host}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let twice = TestRequest::default().append_header((HOST, "localhost")).append_header((HOST, "localhost"));
        assert_eq!(admit("127.0.0.1:1", None, twice), Some(ErrorKind::BadRequest));
        let none = TestRequest::default();
        assert_eq!(admit("127.0.0.1:1", None, none), Some(ErrorKind::BadRequest));
        let old = TestRequest::default().version(Version::HTTP_10);
        assert_eq!(admit("127.0.0.1:1", None, old), None);
        let absolute = TestRequest::with_uri("http://evil.example/x").insert_header((HOST, "localhost"));
        assert_eq!(admit("127.0.0.1:1", None, absolute), Some(ErrorKind::Misdirected));
    }

    #[test]
    fn foreign_pages_change_nothing() {
        let forbidden = Some(ErrorKind::Forbidden);
        let cases = [
            (Method::POST, "localhost:8080", None, None),
            (Method::POST, "localhost:8080", Some("http://localhost:8080"), None),
            (Method::POST, "localhost", Some("http://localhost"), None),
            (Method::POST, "localhost", Some("https://localhost:443"), None),
            (Method::POST, "pacs.example", Some("https://pacs.example"), None),
            (Method::POST, "127.0.0.1:8080", Some("https://pacs.example"), None),
            (Method::POST, "localhost:8080", Some("http://localhost:9090"), forbidden),
            (Method::POST, "localhost:8080", Some("http://127.0.0.1:8080"), forbidden),
            (Method::POST, "localhost:8080", Some("https://evil.example"), forbidden),
            (Method::POST, "localhost:8080", Some("null"), forbidden),
            (Method::PUT, "localhost:8080", Some("file://"), forbidden),
            (Method::DELETE, "localhost:8080", Some("https://evil.example"), forbidden),
            (Method::PATCH, "localhost:8080", Some("https://evil.example"), forbidden),
            (Method::GET, "localhost:8080", Some("https://evil.example"), None),
            (Method::OPTIONS, "localhost:8080", Some("https://evil.example"), None),
        ];
        for (method, host, origin, expected) in cases {
            let mut request = TestRequest::default().method(method.clone()).insert_header((HOST, host));
            if let Some(origin) = origin {
                request = request.insert_header((ORIGIN, origin));
            }
            let found = admit("127.0.0.1:8080", Some("https://pacs.example"), request);
            assert_eq!(found, expected, "{method} {host} {origin:?}");
        }
    }

    #[test]
    fn a_body_that_says_it_is_too_large_is_refused_before_it_comes() {
        let request = |length: &'static str| {
            TestRequest::post().insert_header((HOST, "localhost")).insert_header((CONTENT_LENGTH, length))
        };
        assert_eq!(admit("127.0.0.1:1", None, request("101")), Some(ErrorKind::TooLarge));
        assert_eq!(admit("127.0.0.1:1", None, request("100")), None);
    }
}

//! What a request means.

use hyper::{Method, StatusCode};

use crate::limits::Limits;

/// A request, as far as its first line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Who the hub is.
    Root,
    /// Its numbers.
    Metrics,
    /// A browser asks whether a page of another origin may ask: it may.
    Preflight,
    /// To be told of everything that is published in these channels (`APP/CHANNEL`), each once.
    Subscribe(Vec<Box<str>>),
    /// To publish what follows in this channel.
    Publish(Box<str>),
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is nothing there.
    NotFound,
    /// A channel's name is too long.
    LongName,
    /// Too many channels at once.
    ManyChannels,
    /// Too many requests, or bytes, from this address.
    Busy,
    /// Too many subscriptions from this address.
    Crowded,
    /// Too many subscriptions in all.
    Full,
    /// The message is too long.
    LongMessage,
    /// The message didn't come in time, or not as a whole.
    Incomplete,
}

impl Refused {
    /// The status to answer.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Refused::NotFound => StatusCode::NOT_FOUND,
            Refused::LongName => StatusCode::URI_TOO_LONG,
            Refused::ManyChannels => StatusCode::BAD_REQUEST,
            Refused::Busy | Refused::Crowded => StatusCode::TOO_MANY_REQUESTS,
            Refused::Full => StatusCode::SERVICE_UNAVAILABLE,
            Refused::LongMessage => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::Incomplete => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// What to answer, for people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Refused::NotFound => "nothing is here\n",
            Refused::LongName => "the channel's name is too long\n",
            Refused::ManyChannels => "too many channels at once\n",
            Refused::Busy => "too many requests from this address\n",
            Refused::Crowded => "too many subscriptions from this address\n",
            Refused::Full => "this hub is full\n",
            Refused::LongMessage => "the message is too long\n",
            Refused::Incomplete => "the message didn't come in time\n",
        }
    }
}

/// Reads a request. As in signalhub: the name is all between `/v1/` and a question mark, and may hold slashes; what a
/// subscription names after the first of them is split at commas; nothing is decoded.
pub(crate) fn read(method: &Method, path: &str, limits: &Limits) -> Result<Request, Refused> {
    if method == Method::OPTIONS {
        return Ok(Request::Preflight);
    }
    let get = method == Method::GET;
    match path {
        "/" if get => return Ok(Request::Root),
        "/metrics" if get => return Ok(Request::Metrics),
        _ => {}
    }
    let name = path.strip_prefix("/v1/").ok_or(Refused::NotFound)?;
    if method == Method::POST {
        return if name.len() > limits.name { Err(Refused::LongName) } else { Ok(Request::Publish(name.into())) };
    }
    if !get {
        return Err(Refused::NotFound);
    }
    let (app, channels) = name.split_once('/').unwrap_or((name, ""));
    let mut names: Vec<Box<str>> = Vec::new();
    for channel in channels.split(',') {
        if app.len() + 1 + channel.len() > limits.name {
            return Err(Refused::LongName);
        }
        let name = format!("{app}/{channel}").into_boxed_str();
        if names.contains(&name) {
            continue;
        }
        if names.len() >= limits.channels {
            return Err(Refused::ManyChannels);
        }
        names.push(name);
    }
    Ok(Request::Subscribe(names))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(method: Method, path: &str) -> Result<Request, Refused> {
        read(&method, path, &Limits::default())
    }

    fn subscribe<const N: usize>(names: [&str; N]) -> Result<Request, Refused> {
        Ok(Request::Subscribe(names.map(Into::into).into()))
    }

    #[test]
    fn names_are_split_as_signalhub_does() {
        assert_eq!(of(Method::GET, "/v1/app/one,two"), subscribe(["app/one", "app/two"]));
        assert_eq!(of(Method::GET, "/v1/app/a/b,c/d"), subscribe(["app/a/b", "app/c/d"]));
        assert_eq!(of(Method::GET, "/v1/app/%20"), subscribe(["app/%20"]));
        assert_eq!(of(Method::GET, "/v1/app"), subscribe(["app/"]));
        assert_eq!(of(Method::POST, "/v1/app/a/b,c/d"), Ok(Request::Publish("app/a/b,c/d".into())));
        assert_eq!(of(Method::GET, "/v1/app/one,one"), subscribe(["app/one"]));
    }

    #[test]
    fn what_is_no_request_of_a_hub_is_not_found() {
        for path in ["/v1", "/v2/app/channel", "/index.html", "//", "*", ""] {
            assert_eq!(of(Method::GET, path), Err(Refused::NotFound), "{path}");
        }
        for method in [Method::PUT, Method::DELETE, Method::HEAD, Method::TRACE, Method::CONNECT] {
            assert_eq!(of(method, "/v1/app/channel"), Err(Refused::NotFound));
        }
        assert_eq!(of(Method::POST, "/"), Err(Refused::NotFound));
        assert_eq!(of(Method::OPTIONS, "/v1/app/channel"), Ok(Request::Preflight));
    }

    #[test]
    fn names_and_numbers_of_channels_are_bounded() {
        let limits = Limits { name: 10, channels: 2, ..Limits::default() };
        let get = |path: &str| read(&Method::GET, path, &limits);
        assert!(get("/v1/app/123456,654321").is_ok());
        assert_eq!(get("/v1/app/1234567"), Err(Refused::LongName));
        assert_eq!(get("/v1/app/1,2,3"), Err(Refused::ManyChannels));
        assert!(get("/v1/app/1,2,1,2,1").is_ok());
        assert_eq!(read(&Method::POST, "/v1/app/1234567", &limits), Err(Refused::LongName));
    }

    proptest! {
        #[test]
        fn whoever_publishes_in_a_channel_reaches_who_subscribed_to_it(
            app in "[a-z0-9-]{1,20}", channels in proptest::collection::vec("[!-+--~]{0,12}", 1..8)
        ) {
            let path = format!("/v1/{app}/{}", channels.join(","));
            let Ok(Request::Subscribe(names)) = of(Method::GET, &path) else { panic!("{path}") };
            for channel in channels {
                let Ok(Request::Publish(name)) = of(Method::POST, &format!("/v1/{app}/{channel}")) else { panic!() };
                prop_assert!(names.contains(&name));
            }
        }

        #[test]
        fn no_path_asks_for_more_than_allowed(path in ".{0,600}", post in any::<bool>()) {
            let limits = Limits::default();
            match of(if post { Method::POST } else { Method::GET }, &path) {
                Ok(Request::Subscribe(names)) => {
                    prop_assert!(names.len() <= limits.channels && names.iter().all(|name| name.len() <= limits.name));
                }
                Ok(Request::Publish(name)) => prop_assert!(name.len() <= limits.name),
                _ => {}
            }
        }
    }
}

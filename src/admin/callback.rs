//! Where a browser comes back to after a consent (RFC 8252 section 7.3): a page on a loopback port
//! that lives as long as `postbote oauth connect` waits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::explain::Language;
use crate::http::url::decode_query;

/// What a browser brought.
pub struct Returned {
    /// The code, or `error` and `error_description`.
    pub outcome: Result<String, (String, String)>,
    /// The issuer, where the provider names it (RFC 9207).
    pub issuer: Option<String>,
    /// Tells the page how it went on.
    pub answer: oneshot::Sender<Result<(), String>>,
}

struct Page {
    /// What a request has to call us.
    hosts: Vec<String>,
    /// What has to come back; taken by the first that brings it.
    state: Mutex<Option<String>>,
    language: Language,
    returned: mpsc::Sender<Returned>,
    outcome: Mutex<Option<Result<(), String>>>,
    shown: Arc<Notify>,
}

/// How long the browser may take to fetch the last page.
const PAGE_PATIENCE: Duration = Duration::from_secs(3);

/// The page while it is there.
pub struct Callback {
    returned: mpsc::Receiver<Returned>,
    shown: Arc<Notify>,
    stop: CancellationToken,
    servers: Vec<JoinHandle<()>>,
}

impl Callback {
    /// Waits for the browser on these sockets, all of the same port.
    pub fn serve(
        listeners: Vec<TcpListener>,
        port: u16,
        state: String,
        language: Language,
    ) -> Self {
        let (sender, returned) = mpsc::channel(1);
        let shown = Arc::new(Notify::new());
        let stop = CancellationToken::new();
        let page = Arc::new(Page {
            hosts: ["localhost", "127.0.0.1", "[::1]"]
                .iter()
                .map(|host| format!("{host}:{port}"))
                .collect(),
            state: Mutex::new(Some(state)),
            language,
            returned: sender,
            outcome: Mutex::new(None),
            shown: Arc::clone(&shown),
        });
        let router = Router::new()
            .route("/", get(come_back))
            .route("/done", get(done))
            .with_state(page);
        let servers = listeners.into_iter().map(|listener| {
            let (router, stop) = (router.clone(), stop.clone());
            tokio::spawn(async move {
                let _ = axum::serve(listener, router)
                    .with_graceful_shutdown(async move { stop.cancelled().await })
                    .await;
            })
        });
        Self {
            returned,
            shown,
            servers: servers.collect(),
            stop,
        }
    }

    /// What the browser brought.
    pub async fn returned(&mut self) -> Option<Returned> {
        self.returned.recv().await
    }

    /// Ends when the browser has shown its last page, or does not come for it.
    pub async fn end(self) {
        let _ = timeout(PAGE_PATIENCE, self.shown.notified()).await;
        self.stop.cancel();
        for server in self.servers {
            let _ = timeout(PAGE_PATIENCE, server).await;
        }
    }
}

impl Page {
    fn is_for_us(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().and_then(|h| h.to_str().ok()).unwrap_or("");
        hosts.next().is_none() && self.hosts.iter().any(|known| known == host)
    }

    /// Takes the state, if it is the right one: it serves once.
    fn take_state(&self, given: &str) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let right = state.as_deref().is_some_and(|wanted| {
            aws_lc_rs::constant_time::verify_slices_are_equal(wanted.as_bytes(), given.as_bytes())
                .is_ok()
        });
        if right {
            *state = None;
        }
        right
    }

    fn say(&self, de: &'static str, en: &'static str) -> &'static str {
        match self.language {
            Language::De => de,
            Language::En => en,
        }
    }

    fn show(&self, status: StatusCode, title: &str, text: &str) -> Response {
        let body = format!(
            "<!doctype html><html lang=\"{}\"><meta charset=\"utf-8\"><title>Postbote</title>\
             <body style=\"font-family:sans-serif;max-width:40em;margin:3em auto\"><h1>{}</h1><p>{}</p></body></html>\n",
            self.language.code(),
            escape(title),
            escape(text)
        );
        let mut response = (status, Html(body)).into_response();
        protect(response.headers_mut());
        response
    }
}

/// Nothing of the address goes on to others, and no page may do anything.
fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
}

async fn come_back(State(page): State<Arc<Page>>, headers: HeaderMap, uri: Uri) -> Response {
    if !page.is_for_us(&headers) {
        return page.show(
            StatusCode::MISDIRECTED_REQUEST,
            "421",
            "This page is for this machine alone.",
        );
    }
    let query = decode_query(uri.query().unwrap_or(""));
    let get = |name: &str| {
        query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    if !page.take_state(get("state").unwrap_or("")) {
        let text = page.say(
            "Diese Rückmeldung gehört nicht zu der laufenden Zustimmung, oder sie kam schon einmal. Bitte nehmen Sie den Link, den „postbote oauth connect“ anzeigt.",
            "This answer does not belong to the consent that is under way, or it has come before. Please use the link that 'postbote oauth connect' shows.",
        );
        return page.show(StatusCode::BAD_REQUEST, "400", text);
    }
    let outcome = match (get("code"), get("error")) {
        (Some(code), None) if !code.is_empty() && code.len() <= 4096 => Ok(code.to_owned()),
        (_, error) => Err((
            error.unwrap_or("no code").to_owned(),
            get("error_description").unwrap_or("").to_owned(),
        )),
    };
    let (answer, told) = oneshot::channel();
    let returned = Returned {
        outcome,
        issuer: get("iss").map(str::to_owned),
        answer,
    };
    let _ = page.returned.send(returned).await;
    let outcome = told.await.unwrap_or_else(|_| Err(String::new()));
    *page.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    // To an address without the code: it stays in no history and no referrer.
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, "/done")]).into_response();
    protect(response.headers_mut());
    response
}

async fn done(State(page): State<Arc<Page>>, headers: HeaderMap) -> Response {
    if !page.is_for_us(&headers) {
        return page.show(
            StatusCode::MISDIRECTED_REQUEST,
            "421",
            "This page is for this machine alone.",
        );
    }
    let outcome = page
        .outcome
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    if outcome.is_some() {
        page.shown.notify_one();
    }
    match outcome {
        None => page.show(StatusCode::NOT_FOUND, "404", "…"),
        Some(Ok(())) => page.show(
            StatusCode::OK,
            page.say("Verbunden", "Connected"),
            page.say(
                "Postbote darf jetzt für dieses Konto senden. Sie können dieses Fenster schließen.",
                "Postbote may send for this account now. You can close this window.",
            ),
        ),
        Some(Err(why)) => page.show(
            StatusCode::OK,
            page.say("Nicht verbunden", "Not connected"),
            &why,
        ),
    }
}

/// Text as HTML shows it.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

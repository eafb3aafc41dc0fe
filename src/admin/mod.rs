//! The admin address: health and metrics.

pub mod callback;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::oauth::Tokens;
use crate::observe::metrics::Metrics;
use crate::spool::Spool;
use crate::spool::operate::Overlay;

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not everything is up.
    Starting,
    /// Serving.
    Ready,
    /// Going down.
    Draining,
}

/// What the pages need.
pub struct Health {
    phase: AtomicU8,
    spool: Spool,
    metrics: Arc<Metrics>,
    overlay: Box<dyn Overlay + Send>,
    tokens: Tokens,
}

impl Health {
    /// At the start of a process.
    /// `overlay`: how delivery sees what waits.
    pub fn new(
        spool: Spool,
        metrics: Arc<Metrics>,
        overlay: Box<dyn Overlay + Send>,
        tokens: Tokens,
    ) -> Self {
        Self {
            phase: AtomicU8::new(0),
            spool,
            metrics,
            overlay,
            tokens,
        }
    }

    /// A new phase.
    pub fn enter(&self, phase: Phase) {
        let code = match phase {
            Phase::Starting => 0,
            Phase::Ready => 1,
            Phase::Draining => 2,
        };
        self.phase.store(code, Ordering::Release);
    }

    /// The status and text of `/readyz`.
    fn ready(&self) -> (StatusCode, String) {
        if self.spool.store().has_failed() {
            return (
                StatusCode::SERVICE_UNAVAILABLE,
                "spool failed: a write could not be made durable\n".to_owned(),
            );
        }
        match self.phase.load(Ordering::Acquire) {
            0 => (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned()),
            1 => {
                let mut text = "ready\n".to_owned();
                for (route, health) in self.spool.lanes().unwrap_or_default() {
                    if let Ok(value) = serde_json::from_str::<serde_json::Value>(&health)
                        && !value["suspended_since"].is_null()
                    {
                        text.push_str(&format!("suspended: {route}\n"));
                    }
                }
                (StatusCode::OK, text)
            }
            _ => (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned()),
        }
    }
}

/// Opens the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|e| {
        format!("the admin address {address} cannot be opened: {e}; change [admin] address")
    })
}

/// Serves until cancelled.
pub async fn serve(listener: TcpListener, health: Arc<Health>, stop: CancellationToken) {
    let router = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route(
            "/readyz",
            get(|State(health): State<Arc<Health>>| async move { health.ready() }),
        )
        .route("/metrics", get(metrics))
        .with_state(health);
    let _ = axum::serve(listener, router)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await;
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let state = Arc::clone(&health);
    let counts = tokio::task::spawn_blocking(move || {
        state
            .spool
            .counts(state.overlay.as_ref())
            .unwrap_or_default()
    })
    .await
    .unwrap_or_default();
    health.metrics.token_expiries(&health.tokens.expiries());
    match health.metrics.render(health.spool.bytes(), &counts) {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

//! The control socket of a running server, `DATA_DIR/control.sock`: how the commands `queue` and
//! `sendmail` reach it. One JSON object a line each way; only the server's own user may connect.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::delivery::Scheduler;
use crate::message::{Envelope, TenantId};
use crate::spool::operate::{Action, Filter};
use crate::submission::connection::{Connection, Services};
use crate::submission::local;
use crate::submission::session::Session;

/// Largest request: a message of the largest allowed size in base64, and then some.
const REQUEST_LIMIT: u64 = 512 << 20;

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Request {
    /// `queue list`
    List {
        /// Which.
        filter: Filter,
    },
    /// `queue show`
    Show {
        /// Which.
        id: String,
    },
    /// `notices`
    Notices {
        /// Only this tenant's.
        tenant: Option<String>,
    },
    /// `queue retry` and the like.
    Operate {
        /// What.
        action: Action,
        /// On which.
        filter: Filter,
    },
    /// `sendmail -bs`: from here on the connection speaks SMTP.
    Smtp {
        /// Whose mail it is.
        tenant: String,
    },
    /// `sendmail`
    Submit {
        /// Whose.
        tenant: String,
        /// To whom.
        envelope: Box<Envelope>,
        /// The message, base64.
        message: String,
    },
}

/// Where the socket is.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// What the socket serves.
pub struct Control {
    /// Delivery.
    pub scheduler: Scheduler,
    /// Spool and admission, as for every other way in.
    pub services: Services,
}

/// Opens the socket.
pub fn bind(data_dir: &Path) -> Result<UnixListener, String> {
    let path = path(data_dir);
    let shown = |e: std::io::Error| {
        format!(
            "the control socket {} cannot be opened: {e}",
            path.display()
        )
    };
    // The spool's lock says that we are alone: what is there is left over.
    if path.exists() {
        std::fs::remove_file(&path).map_err(shown)?;
    }
    let listener = UnixListener::bind(&path).map_err(shown)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(shown)?;
    Ok(listener)
}

/// Serves until cancelled.
pub async fn serve(listener: UnixListener, control: Arc<Control>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let control = Arc::clone(&control);
                tokio::spawn(async move {
                    let _ = converse(stream, &control).await;
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(stream: UnixStream, control: &Control) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.take(REQUEST_LIMIT));
    let mut line = String::new();
    reader.read_line(&mut line).await?;
    let mut write = reader.into_inner().into_inner();
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(Request::Smtp { tenant }) => {
            // The client waits for the greeting, so nothing was read beyond the request.
            let Some(tenant) = TenantId::parse(&tenant) else {
                return Ok(());
            };
            let listener = Arc::new(local::listener(tenant));
            let session = Box::new(Session::new(
                Arc::clone(&listener),
                String::new(),
                None,
                false,
                false,
            ));
            let _ = Connection::new(write, control.services.clone(), listener, None)
                .serve(session, true)
                .await;
            return Ok(());
        }
        Ok(request) => answer(request, control).await,
        Err(error) => json!({ "error": format!("not a request: {error}") }),
    };
    write.write_all(format!("{answer}\n").as_bytes()).await?;
    write.shutdown().await
}

async fn answer(request: Request, control: &Control) -> Value {
    let failed = |e: &dyn std::fmt::Display| json!({ "error": e.to_string() });
    match request {
        Request::List { filter } => {
            let (spool, scheduler) = (control.services.spool.clone(), control.scheduler.clone());
            match tokio::task::spawn_blocking(move || spool.list(&filter, &scheduler)).await {
                Ok(Ok(list)) => json!({ "ok": list }),
                Ok(Err(error)) => failed(&error),
                Err(error) => failed(&error),
            }
        }
        Request::Show { id } => {
            let (spool, scheduler) = (control.services.spool.clone(), control.scheduler.clone());
            match tokio::task::spawn_blocking(move || spool.show(&id, &scheduler)).await {
                Ok(Ok(found)) => json!({ "ok": found }),
                Ok(Err(error)) => failed(&error),
                Err(error) => failed(&error),
            }
        }
        Request::Notices { tenant } => {
            let spool = control.services.spool.clone();
            match tokio::task::spawn_blocking(move || spool.notices(tenant.as_deref())).await {
                Ok(Ok(list)) => json!({ "ok": list }),
                Ok(Err(error)) => failed(&error),
                Err(error) => failed(&error),
            }
        }
        Request::Operate { action, filter } => {
            match control.scheduler.operate(action, &filter).await {
                Ok(report) => json!({ "ok": report }),
                Err(error) => failed(&error),
            }
        }
        Request::Smtp { .. } => failed(&"malformed"),
        Request::Submit {
            tenant,
            envelope,
            message,
        } => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(message);
            let (Some(tenant), Ok(message)) = (TenantId::parse(&tenant), decoded) else {
                return failed(&"malformed");
            };
            let now = control.services.now.load_full();
            match local::submit(
                &now,
                &control.services.runs,
                &control.services.spool,
                &tenant,
                *envelope,
                &message,
            )
            .await
            {
                Ok(id) => json!({ "ok": id.as_str() }),
                Err(reply) => json!({ "refused": reply.to_string() }),
            }
        }
    }
}

/// Begins SMTP with a running server: the stream's next bytes are its greeting.
pub fn begin_smtp(
    data_dir: &Path,
    tenant: &TenantId,
) -> std::io::Result<std::os::unix::net::UnixStream> {
    use std::io::Write as _;
    let mut stream = std::os::unix::net::UnixStream::connect(path(data_dir))?;
    let text = serde_json::to_string(&Request::Smtp {
        tenant: tenant.to_string(),
    })?;
    stream.write_all(format!("{text}\n").as_bytes())?;
    Ok(stream)
}

/// Asks a running server. `Ok(None)`: none is running.
pub fn ask(data_dir: &Path, request: &Request) -> std::io::Result<Option<Value>> {
    use std::io::{BufRead as _, Write as _};
    let mut stream = match std::os::unix::net::UnixStream::connect(path(data_dir)) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(Duration::from_secs(600)))?;
    let text = serde_json::to_string(request)?;
    stream.write_all(text.as_bytes())?;
    stream.write_all(b"\n")?;
    let mut line = String::new();
    std::io::BufReader::new(stream).read_line(&mut line)?;
    serde_json::from_str(&line)
        .map(Some)
        .map_err(std::io::Error::other)
}

//! The running server: listener, route tables, limits and timeouts of connections, ordered shutdown.
//!
//! Every worker has a runtime of its own for its connections; pools and background work live on the runtime that
//! [`Server::start`] is called on, which outlives the workers.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive, Request};
use actix_service::{IntoServiceFactory as _, ServiceFactory, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::{self, AppConfig, ServerHandle};
use actix_web::middleware::from_fn;
use actix_web::web;
use tokio::net::{TcpSocket, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

use crate::app::{self, App};
use crate::config::{Config, ServerSettings};
use crate::dicomweb;
use crate::error::{Error, Result};
use crate::http::connection::{Connection, Listener, Patience};
use crate::http::error::HttpError;
use crate::http::guard::Guard;
use crate::http::health;
use crate::http::observe::{Observed, Observer, RequestId, observe};
use crate::http::routes::{RouteMetrics, RouteSpec, mount, not_found};
use crate::http::stall::Pace;
use crate::telemetry;

/// Every route table and the root below which it is mounted.
pub static SURFACES: &[(&str, &[RouteSpec])] = &[(dicomweb::urls::ROOT, dicomweb::ROUTES), ("", health::ROUTES)];

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// For how long what is left of a refused body is read, so that the client gets to see the answer.
const DRAIN: Duration = Duration::from_secs(2);

/// How long a server that is told twice to stop may take to close what is open.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// A server that listens.
pub struct Server {
    app: App,
    listener: Listener,
    running: dev::Server,
}

impl Server {
    /// Opens everything and listens. The calling runtime must outlive the server.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Configuration`] with one line that says what to do.
    pub async fn start(config: Config) -> Result<Self> {
        app::check(&config)?;
        survive_large_files()?;
        telemetry::start_metrics()?;
        // First, so that a second server by mistake touches nothing of the first one.
        let socket = listen(config.server.listen)?;
        let address =
            socket.local_addr().map_err(|error| Error::internal("the listener has no address").caused_by(error))?;
        let listener = Listener { address, scheme: "http" };
        let app = App::open(config).await?;
        let running = run(&app, listener, socket)
            .map_err(|error| Error::internal("the server cannot be started").caused_by(error))?;
        Ok(Self { app, listener, running })
    }

    /// Where it listens, also when any free port was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address
    }

    /// The URL of the DICOMweb service.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.listener.scheme, self.listener.address, dicomweb::urls::ROOT)
    }

    /// What it serves, for tests that look behind it.
    #[must_use]
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Stops the server from elsewhere: `stop(true)` finishes running requests.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.running.handle()
    }

    /// Answers requests until the server is stopped through its handle.
    ///
    /// # Errors
    /// What made the server end by itself.
    pub async fn run(self) -> Result<()> {
        let upkeep = tokio::spawn(telemetry::keep_metrics());
        let tidying = tokio::spawn(self.app.clone().keep_tidy());
        let ended = self.running.await;
        upkeep.abort();
        tidying.abort();
        self.app.close().await;
        ended.map_err(|error| Error::internal("the server ended").caused_by(error))
    }

    /// Answers requests until the process is told to stop (SIGTERM, SIGINT). Running requests are finished, for as long as the
    /// settings allow; a second signal ends them. `announce` is called once signals are watched: whoever hears of the server
    /// by it may stop it in order.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub async fn run_until_stopped(self, announce: impl FnOnce(&Self)) -> Result<()> {
        let (handle, app) = (self.handle(), self.app.clone());
        let mut stop = StopSignals::new()?;
        announce(&self);
        let told_twice = async move {
            stop.next().await;
            tracing::info!("stopping; running requests are finished, a second signal ends them");
            // it goes on by itself
            drop(handle.stop(true));
            stop.next().await;
        };
        let ended = tokio::select! {
            ended = self.run() => ended,
            // the threads that answer requests end with the process
            () = told_twice => {
                tracing::warn!("stopping at once; running requests are cut");
                // what is cut leaves objects without a row at most, and the lease of this process to the sweep
                let _ = tokio::time::timeout(LAST_MOMENT, app.close()).await;
                Ok(())
            }
        };
        tracing::info!("stopped");
        ended
    }
}

/// SIGXFSZ by its number on Linux and macOS, since tokio has no name for it.
const FILE_TOO_LARGE: i32 = 25;

/// A file that would outgrow the limit of the process (`ulimit -f`) is an error of the write, not the end of the server.
fn survive_large_files() -> Result<()> {
    // once there is a handler the process lives on, whether anybody listens or not
    let watched = signal(SignalKind::from_raw(FILE_TOO_LARGE)).map(drop);
    watched.map_err(|error| Error::internal("signals cannot be watched").caused_by(error))
}

/// SIGTERM and SIGINT.
struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn new() -> Result<Self> {
        let watch = |kind| signal(kind).map_err(|error| Error::internal("signals cannot be watched").caused_by(error));
        Ok(Self { terminate: watch(SignalKind::terminate())?, interrupt: watch(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Takes the address.
fn listen(address: SocketAddr) -> Result<std::net::TcpListener> {
    let take = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restarted server may have its port back at once.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?.into_std()
    };
    take().map_err(|error: io::Error| {
        let what = match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("port {} of {} is taken by another program", address.port(), address.ip())
            }
            io::ErrorKind::AddrNotAvailable => format!("{} is no address of this machine", address.ip()),
            io::ErrorKind::PermissionDenied => format!("port {} needs privileges", address.port()),
            _ => error.to_string(),
        };
        Error::configuration(format!(
            "cannot listen on `{address}`: {what}; choose another with `--listen ADDRESS:PORT`"
        ))
    })
}

/// Starts the workers.
fn run(app: &App, listener: Listener, socket: std::net::TcpListener) -> io::Result<dev::Server> {
    let settings = app.config.server.clone();
    let seconds = settings.shutdown_timeout.as_secs().max(u64::from(settings.shutdown_timeout.subsec_nanos() > 0));
    let builder = dev::Server::build().workers(settings.workers).shutdown_timeout(seconds).disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let app = app.clone();
    let builder = builder.listen("http", socket, move || {
        let stopping = stopping.clone();
        let guard = guard(&app, listener);
        let expect = guard.clone();
        let http = HttpService::build()
            .keep_alive(KeepAlive::Timeout(settings.keep_alive))
            .client_request_timeout(settings.request_timeout)
            .client_disconnect_timeout(DRAIN)
            .on_connect_ext(|connection: &Connection, data| {
                data.insert(connection.activity());
            })
            // An upload over HTTP/2 may have so much under way.
            .h2_initial_window_size(1 << 20)
            .h2_initial_connection_window_size(2 << 20)
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .expect(fn_service(move |request: Request| std::future::ready(admit(&expect, request))))
            .finish(map_config(application(&app, listener, guard), |()| AppConfig::default()));
        accept(&settings).and_then(http)
    })?;
    Ok(builder.run())
}

fn guard(app: &App, listener: Listener) -> Guard {
    let config = &app.config;
    Guard::new(listener.address, config.server.public_url.clone(), config.limits.request_size)
}

/// Takes connections, each with its protocol and the address of the client.
fn accept(
    settings: &ServerSettings,
) -> impl ServiceFactory<
    TcpStream,
    Config = (),
    Response = (Connection, actix_http::Protocol, Option<SocketAddr>),
    Error = DispatchError,
    InitError = (),
> + use<> {
    let ServerSettings { request_timeout, idle_timeout, keep_alive, .. } = *settings;
    let between = keep_alive.saturating_add(request_timeout);
    let patience = Patience { first_byte: request_timeout, idle: idle_timeout, between };
    fn_service(move |stream: TcpStream| async move {
        let client = stream.peer_addr().ok();
        let (connection, protocol) = Connection::accept(stream, patience).await.map_err(DispatchError::Io)?;
        Ok((connection, protocol, client))
    })
}

/// Refuses a request that waits for `100 Continue` before its body is sent.
fn admit(guard: &Guard, request: Request) -> Result<Request, actix_http::Response<BoxBody>> {
    match guard.admit(request.head()) {
        Ok(()) => Ok(request),
        Err(error) => {
            let id = RequestId::of(&request.head().headers);
            let error = HttpError::from(error);
            error.log(&id.0);
            Err(error.response(Some(&id.0)).into())
        }
    }
}

/// All surfaces as one service of a worker.
fn application(
    app: &App,
    listener: Listener,
    guard: Guard,
) -> impl ServiceFactory<
    Request,
    Config = AppConfig,
    Response = dev::ServiceResponse<Observed>,
    Error = actix_web::Error,
    InitError = (),
> + use<> {
    let ServerSettings { idle_timeout, least_rate, rate_window, .. } = app.config.server;
    let pace = Pace { idle: idle_timeout, least_rate, window: rate_window, longest: app.config.limits.request_time };
    let observer = Rc::new(Observer { guard, pace, unmatched: RouteMetrics::new("none") });
    actix_web::App::new()
        .app_data(web::Data::new(app.clone()))
        .app_data(listener)
        .wrap(from_fn(move |request, next| observe(Rc::clone(&observer), request, next)))
        .configure(|config| {
            for (root, routes) in SURFACES {
                mount(config, root, routes);
            }
        })
        .default_service(web::to(not_found))
        .into_factory()
}

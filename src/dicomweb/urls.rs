//! The URLs that answers hold: where the service is for the one who asked.
//!
//! The base is the public URL of the settings, else the listener's scheme and the validated Host header, with the
//! listener's port when Host names none: a widely used client leaves the port out.

use actix_web::HttpRequest;

use crate::app::App;
use crate::http::connection::Listener;

/// Where the DICOMweb service is mounted.
pub const ROOT: &str = "/dicom-web";

/// The absolute URL of the service, without a slash at its end.
#[must_use]
pub fn absolute(request: &HttpRequest, app: &App) -> String {
    if let Some(public) = &app.config.server.public_url {
        return format!("{}{ROOT}", public.as_str());
    }
    // The one that was validated: of the target, where that names one (HTTP/2, proxies), else of the header.
    let target = request.uri().authority().map(actix_http::uri::Authority::as_str);
    let header = || request.headers().get("host").and_then(|host| host.to_str().ok());
    let host = target.or_else(header).unwrap_or("localhost");
    // An IPv6 address holds colons of its own, in brackets.
    let named = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match request.app_data::<Listener>() {
        Some(listener) if !named => format!("{}://{host}:{}{ROOT}", listener.scheme, listener.address.port()),
        Some(listener) => format!("{}://{host}{ROOT}", listener.scheme),
        None => format!("http://{host}{ROOT}"),
    }
}

/// The same as an absolute path, so that cached answers are right behind any host name.
#[must_use]
pub fn path(app: &App) -> String {
    let prefix = app.config.server.public_url.as_ref().map_or("", |public| public.prefix());
    format!("{prefix}{ROOT}")
}

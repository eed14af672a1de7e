//! What the server tells about itself: the log and the metrics, by name.
//!
//! Never logged, traced or put in a label: values of data sets, query strings, file names, tokens. UIDs, sizes and codes are fine.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::filter::EnvFilter;

use crate::config::{LogFormat, LogSettings};
use crate::error::{Error, Result};

/// Requests answered, by `route` and `status` class.
pub const HTTP_REQUESTS: &str = "isocenter_http_requests_total";
/// Seconds from the head of a request to the last byte of its answer, by `route`.
pub const HTTP_SECONDS: &str = "isocenter_http_request_duration_seconds";
/// Bytes of request bodies, by `route`.
pub const HTTP_RECEIVED: &str = "isocenter_http_received_bytes_total";
/// Bytes of answers' bodies, by `route`.
pub const HTTP_SENT: &str = "isocenter_http_sent_bytes_total";
/// Requests being answered, by `route`.
pub const HTTP_IN_FLIGHT: &str = "isocenter_http_requests_in_flight";

/// Upper bounds of the histograms of seconds.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// How often what was measured is moved into the histograms; between two scrapes it would only pile up.
const UPKEEP: Duration = Duration::from_secs(5);

/// Crates that see requests, for the filter of the log.
const QUIET: &str = "actix_http=info,actix_web=info,actix_router=info,h2=info,hyper=info,hyper_util=info,reqwest=info";

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts the log of this process: to standard error, human on a terminal and JSON otherwise, unless the settings say.
///
/// # Errors
/// [`crate::error::ErrorKind::Configuration`] for a level that cannot be read.
pub fn start_log(settings: &LogSettings) -> Result<()> {
    // The framework tells of every worker that it starts, and at the lowest levels of the head of each request, whose query
    // string may name a patient; what the settings say of these by name wins.
    let filter = EnvFilter::try_new(format!("actix_server=warn,{QUIET},{}", settings.level))
        .map_err(|error| Error::configuration("setting `log.level` cannot be read").caused_by(error))?;
    let terminal = std::io::stderr().is_terminal();
    let human = match settings.format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start, as in tests, changes nothing.
    let _ = if human {
        builder.with_ansi(terminal).with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    };
    Ok(())
}

/// Starts to record metrics; a second call changes nothing.
///
/// # Errors
/// [`crate::error::ErrorKind::Internal`] when another recorder is installed.
pub fn start_metrics() -> Result<()> {
    if RECORDER.get().is_some() {
        return Ok(());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
        .map_err(|error| Error::internal("the recorder of metrics cannot be made").caused_by(error))?
        .build_recorder();
    let handle = recorder.handle();
    if RECORDER.set(handle).is_ok() {
        metrics::set_global_recorder(recorder).map_err(|error| {
            Error::internal("the recorder of metrics cannot be installed").caused_by(error.to_string())
        })?;
        describe();
    }
    Ok(())
}

/// Keeps the recorder small; runs for as long as the server does.
pub async fn keep_metrics() {
    loop {
        tokio::time::sleep(UPKEEP).await;
        if let Some(recorder) = RECORDER.get() {
            recorder.run_upkeep();
        }
    }
}

/// All metrics in the text format of Prometheus; `None` unless they are recorded.
#[must_use]
pub fn render() -> Option<String> {
    let mut page = RECORDER.get()?.render();
    process(&mut page);
    Some(page)
}

fn describe() {
    describe_counter!(HTTP_REQUESTS, "Requests answered, by route and class of status");
    describe_histogram!(HTTP_SECONDS, Unit::Seconds, "Time from the head of a request to the last byte of its answer");
    describe_counter!(HTTP_RECEIVED, Unit::Bytes, "Bytes of request bodies");
    describe_counter!(HTTP_SENT, Unit::Bytes, "Bytes of the bodies of answers");
    describe_gauge!(HTTP_IN_FLIGHT, "Requests being answered");
}

/// What the kernel knows of this process, under the names that Prometheus clients use. Only Linux tells.
fn process(page: &mut String) {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).ok();
    // The name of the program, in brackets, may hold blanks; numbers start after it.
    let stat = read("stat").unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
    // In ticks, of which there are 100 a second on every Linux that can run this.
    let seconds = number(11).zip(number(12)).map(|(user, system)| (user + system) / 100.0);
    let files = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    let status = read("status").unwrap_or_default();
    let kilobytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|size| size * 1024.0)
    };
    let values = [
        ("process_cpu_seconds_total", "counter", "User and system time", seconds),
        ("process_resident_memory_bytes", "gauge", "Memory in use", kilobytes("VmRSS:")),
        ("process_resident_memory_peak_bytes", "gauge", "Most memory in use so far", kilobytes("VmHWM:")),
        ("process_threads", "gauge", "Threads", number(17)),
        ("process_open_fds", "gauge", "Open files and connections", files),
    ];
    for (name, kind, help, value) in values {
        if let Some(value) = value {
            // Writing to a string does not fail.
            let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_page_has_routes_and_the_process() {
        start_metrics().unwrap();
        start_metrics().unwrap();
        metrics::counter!(HTTP_REQUESTS, "route" => "test", "status" => "2xx").increment(1);
        metrics::histogram!(HTTP_SECONDS, "route" => "test").record(0.002);
        let page = render().unwrap();
        assert!(page.contains("isocenter_http_requests_total{route=\"test\",status=\"2xx\"} 1"), "{page}");
        assert!(
            page.contains("isocenter_http_request_duration_seconds_bucket{route=\"test\",le=\"0.0025\"} 1"),
            "{page}"
        );
        if cfg!(target_os = "linux") {
            for name in ["process_cpu_seconds_total ", "process_resident_memory_bytes ", "process_open_fds "] {
                assert!(page.lines().any(|line| line.starts_with(name)), "{name}");
            }
        }
    }
}

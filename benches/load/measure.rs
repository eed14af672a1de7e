//! Runs operations from several connections at once and keeps their latencies.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::{megabytes, process};

/// What an operation did.
pub struct Done {
    /// Units (instances, frames, answers) that succeeded.
    pub units: u32,
    /// Units that did not.
    pub failed: u32,
    /// Bytes of payload that went over the wire.
    pub bytes: u64,
}

/// The figures of one phase.
pub struct Figures {
    /// Its name.
    pub phase: String,
    /// Units that succeeded.
    pub units: u64,
    /// Units that did not.
    pub failed: u64,
    bytes: u64,
    elapsed: Duration,
    latencies: Vec<Duration>,
    cpu: Option<Duration>,
}

/// Runs `warm_up` operations, then `operations` measured ones, `connections` at a time.
pub async fn measure<F, R>(
    phase: &str,
    pids: &[u32],
    connections: usize,
    warm_up: u32,
    operations: u32,
    operation: F,
) -> Figures
where
    F: Fn(u32) -> R + Clone + Send + 'static,
    R: Future<Output = Done> + Send,
{
    spread(connections, 0, warm_up, operation.clone()).await;
    let (cpu, start) = (process::cpu_time(pids), Instant::now());
    let done = spread(connections, warm_up, warm_up.saturating_add(operations), operation).await;
    let elapsed = start.elapsed();
    let cpu = (!pids.is_empty()).then(|| process::cpu_time(pids).saturating_sub(cpu));
    let mut latencies: Vec<Duration> = done.iter().map(|(latency, _)| *latency).collect();
    latencies.sort_unstable();
    Figures {
        phase: phase.to_owned(),
        units: done.iter().map(|(_, done)| u64::from(done.units)).sum(),
        failed: done.iter().map(|(_, done)| u64::from(done.failed)).sum(),
        bytes: done.iter().map(|(_, done)| done.bytes).sum(),
        elapsed,
        latencies,
        cpu,
    }
}

/// Operations `from..to`, each taken by whichever connection is free.
async fn spread<F, R>(connections: usize, from: u32, to: u32, operation: F) -> Vec<(Duration, Done)>
where
    F: Fn(u32) -> R + Clone + Send + 'static,
    R: Future<Output = Done> + Send,
{
    let next = Arc::new(AtomicU32::new(from));
    let workers: Vec<_> = (0..connections)
        .map(|_| {
            let (next, operation) = (next.clone(), operation.clone());
            tokio::spawn(async move {
                let mut done = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= to {
                        return done;
                    }
                    let start = Instant::now();
                    let outcome = operation(number).await;
                    done.push((start.elapsed(), outcome));
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.expect("an operation that fails says so instead of panicking"));
    }
    all
}

impl Figures {
    /// The first line of the table.
    pub const HEADER: &str = "phase          done  failed   seconds    per second      MB/s    p50 ms    p95 ms    p99 ms  server CPU ms each";

    fn percentile(&self, percent: usize) -> f64 {
        let index = (self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    }

    fn rate(&self) -> f64 {
        self.units as f64 / self.elapsed.as_secs_f64()
    }

    fn throughput(&self) -> f64 {
        megabytes(self.bytes) / self.elapsed.as_secs_f64()
    }

    fn cpu_each(&self) -> Option<f64> {
        self.cpu.filter(|_| self.units > 0).map(|cpu| cpu.as_secs_f64() * 1e3 / self.units as f64)
    }

    /// The same for a program.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "phase": self.phase,
            "done": self.units,
            "failed": self.failed,
            "seconds": self.elapsed.as_secs_f64(),
            "per_second": self.rate(),
            "megabytes_per_second": self.throughput(),
            "p50_ms": self.percentile(50),
            "p95_ms": self.percentile(95),
            "p99_ms": self.percentile(99),
            "cpu_ms_each": self.cpu_each(),
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phase, units, failed, .. } = self;
        write!(f, "{phase:<10} {units:>8} {failed:>7} {:>9.2} {:>13.1}", self.elapsed.as_secs_f64(), self.rate())?;
        write!(f, " {:>9.1} {:>9.2}", self.throughput(), self.percentile(50))?;
        write!(f, " {:>9.2} {:>9.2}", self.percentile(95), self.percentile(99))?;
        match self.cpu_each() {
            Some(each) => write!(f, " {each:>19.3}"),
            None => write!(f, " {:>19}", "-"),
        }
    }
}

//! The load program: stores synthetic CT series in any DICOMweb server, reads them back, and says what that cost.
//!
//! `benches/README.md` has the method; `benches/compare.sh` runs it against two servers in turn.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own, which talks to a person")]

mod client;
mod measure;
mod phases;
mod process;
mod series;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap::Parser;

use crate::client::Client;
use crate::measure::Figures;
use crate::phases::Phase;
use crate::series::Plan;

/// Stores synthetic CT series over STOW-RS and reads them back over WADO-RS and QIDO-RS.
#[derive(Parser, Debug)]
#[command(name = "load")]
struct Arguments {
    /// DICOMweb root of the server, such as http://127.0.0.1:8080/dicom-web
    #[arg(long)]
    url: String,
    /// What the server is called in the output
    #[arg(long, default_value = "server")]
    label: String,
    /// Process of the server: its CPU and memory and those of its children are measured; may be given several times
    #[arg(long = "server-pid")]
    server_pids: Vec<u32>,
    /// Series of images to store for each of the two storing phases
    #[arg(long, default_value_t = 16)]
    series: u32,
    /// Images in a series
    #[arg(long, default_value_t = 50)]
    series_size: u32,
    /// Small studies of one instance each that the queries search among
    #[arg(long, default_value_t = 1000)]
    studies: u32,
    /// Frames of 524,288 bytes of a large image
    #[arg(long, default_value_t = 3_815)]
    frames: u32,
    /// Requests at once
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Operations of each reading phase, warm-up not counted
    #[arg(long, default_value_t = 2000)]
    operations: u32,
    /// Phases to run, in this order; the two `store` phases are needed once for the others to find something
    #[arg(long, value_delimiter = ',', default_value = "store-1,store-10,instances,frames,metadata,queries")]
    phases: Vec<Phase>,
    /// Makes every UID different from those of a run with another seed
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// Writes the figures to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// `cargo bench` gives this
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    // plain HTTP needs no TLS, but the client asks for a provider when it is made
    rustls::crypto::ring::default_provider().install_default().ok();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let plan = Plan::new(arguments.seed, arguments.series, arguments.series_size, arguments.studies, arguments.frames);
    let client = Client::new(&arguments.url, arguments.connections)?;
    let mut all = Vec::new();
    println!("{}", Figures::HEADER);
    for phase in &arguments.phases {
        let figures =
            phase.run(&client, &plan, arguments.operations, arguments.connections, &arguments.server_pids).await?;
        println!("{figures}");
        all.push(figures);
    }
    let memory = process::peak_memory(&arguments.server_pids);
    if let Some(bytes) = memory {
        println!("peak memory {:.1} MB", megabytes(bytes));
    }
    if let Some(path) = &arguments.json {
        let json = serde_json::json!({
            "label": arguments.label,
            "connections": arguments.connections,
            "series": arguments.series,
            "series_size": arguments.series_size,
            "studies": arguments.studies,
            "operations": arguments.operations,
            "peak_memory_bytes": memory,
            "phases": all.iter().map(Figures::json).collect::<Vec<_>>(),
        });
        fs::write(path, serde_json::to_vec_pretty(&json)?)?;
    }
    let failed: u64 = all.iter().map(|figures| figures.failed).sum();
    if failed > 0 {
        return Err(format!("{failed} operations failed; their time counts, they do not").into());
    }
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

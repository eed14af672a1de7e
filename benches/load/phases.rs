//! What is done in each phase, and what of an answer has to be right for it to count.

use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;

use crate::client::{Client, FRAMES, INSTANCES, JSON};
use crate::measure::{Done, Figures, measure};
use crate::series::{FRAME_BYTES, File, Plan, Set};

/// One phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// Storing images, one per request
    #[value(name = "store-1")]
    Store1,
    /// Storing images, ten per request
    #[value(name = "store-10")]
    Store10,
    /// Storing images, a hundred per request
    #[value(name = "store-100")]
    Store100,
    /// Storing images of 64 × 64 pixels, one per request
    #[value(name = "tiny-1")]
    Tiny1,
    /// Storing images of 64 × 64 pixels, ten per request
    #[value(name = "tiny-10")]
    Tiny10,
    /// Storing two enhanced images of many frames, one after the other
    Large,
    /// Reading whole instances back
    Instances,
    /// Reading single frames
    Frames,
    /// Reading the metadata of whole series
    Metadata,
    /// Searching for studies
    Queries,
}

/// Told once per run, so that a thousand failures do not fill the screen.
static TOLD: AtomicBool = AtomicBool::new(false);

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Store1 => "store-1",
            Self::Store10 => "store-10",
            Self::Store100 => "store-100",
            Self::Tiny1 => "tiny-1",
            Self::Tiny10 => "tiny-10",
            Self::Large => "large",
            Self::Instances => "instances",
            Self::Frames => "frames",
            Self::Metadata => "metadata",
            Self::Queries => "queries",
        }
    }

    /// Runs the phase: a tenth of its operations as warm-up, then all of them measured.
    pub async fn run(
        self,
        client: &Client,
        plan: &Plan,
        operations: u32,
        connections: usize,
        pids: &[u32],
    ) -> Result<Figures, String> {
        let (client, plan) = (client.clone(), plan.clone());
        let (operations, warm_up) = match self {
            Self::Store1 | Self::Tiny1 => (plan.images - plan.images / 10, plan.images / 10),
            Self::Store100 => (plan.images / 100, 0),
            Self::Large => (2, 0),
            Self::Store10 | Self::Tiny10 => (plan.images / 10 - plan.images / 100, plan.images / 100),
            // an answer holds the metadata of a whole series
            Self::Metadata => (operations / 4, operations / 40),
            Self::Instances | Self::Frames | Self::Queries => (operations, operations / 10),
        };
        if self == Self::Queries {
            store_small(&client, &plan, connections).await?;
        }
        let operation = move |number| {
            let (client, plan) = (client.clone(), plan.clone());
            async move {
                let (units, outcome) = self.operation(&client, &plan, number).await;
                match outcome {
                    Ok(bytes) => Done { units, failed: 0, bytes },
                    Err(error) => {
                        if !TOLD.swap(true, Ordering::Relaxed) {
                            eprintln!("{}: operation {number}: {error}", self.name());
                        }
                        Done { units: 0, failed: units, bytes: 0 }
                    }
                }
            }
        };
        let connections = if self == Self::Large { 1 } else { connections };
        Ok(measure(self.name(), pids, connections, warm_up, operations, operation).await)
    }

    /// One operation: how many units it is, and its bytes of payload.
    async fn operation(self, client: &Client, plan: &Plan, number: u32) -> (u32, Result<u64, String>) {
        match self {
            Self::Store1 => (1, store(client, vec![plan.file(Set::Single, number)]).await),
            Self::Store10 => (10, store(client, batch(plan, Set::Batched, number, 10)).await),
            Self::Store100 => (100, store(client, batch(plan, Set::Hundreds, number, 100)).await),
            Self::Tiny1 => (1, store(client, vec![plan.file(Set::Tiny, number)]).await),
            Self::Tiny10 => (10, store(client, batch(plan, Set::TinyBatched, number, 10)).await),
            Self::Large => (1, store(client, vec![plan.file(Set::Large, number)]).await),
            Self::Instances => (1, instance(client, plan, number).await),
            Self::Frames => (1, frame(client, plan, number).await),
            Self::Metadata => (1, metadata(client, plan, number).await),
            Self::Queries => (1, query(client, plan, number).await),
        }
    }
}

fn batch(plan: &Plan, set: Set, number: u32, size: u32) -> Vec<File> {
    (0..size).map(|n| plan.file(set, number * size + n)).collect()
}

async fn store(client: &Client, files: Vec<File>) -> Result<u64, String> {
    client.store(&files).await.map(|()| files.iter().map(File::length).sum())
}

async fn store_small(client: &Client, plan: &Plan, connections: usize) -> Result<(), String> {
    let (client, plan) = (client.clone(), plan.clone());
    let requests = plan.studies.div_ceil(10);
    let store_ten = move |number: u32| {
        let (client, plan) = (client.clone(), plan.clone());
        async move {
            let numbers = number * 10..(number * 10 + 10).min(plan.studies);
            let units = numbers.end - numbers.start;
            let stored = store(&client, numbers.map(|n| plan.file(Set::Small, n)).collect()).await;
            Done { units: 0, failed: if stored.is_ok() { 0 } else { units }, bytes: 0 }
        }
    };
    let figures = measure("prepare", &[], connections, 0, requests, store_ten).await;
    if figures.failed == 0 { Ok(()) } else { Err(format!("{} small studies could not be stored", figures.failed)) }
}

/// Goes through `count` things in an order in which neighbours lie apart: 7919 is prime, so each comes up once.
fn scattered(number: u32, count: u32) -> u32 {
    number.wrapping_mul(7919) % count
}

async fn instance(client: &Client, plan: &Plan, number: u32) -> Result<u64, String> {
    let number = scattered(number, plan.images);
    let id = plan.identity(Set::Single, number);
    let path = format!("/studies/{}/series/{}/instances/{}", id.study, id.series, id.instance);
    let body = client.get(&path, INSTANCES).await?;
    let file = plan.file(Set::Single, number);
    // a part: headers, an empty line, the file, a delimiter
    let start = memchr::memmem::find(&body, b"\r\n\r\n").map_or(0, |at| at + 4);
    if file.begins(&body[start..]) { Ok(body.len() as u64) } else { Err("other bytes than stored".to_owned()) }
}

async fn frame(client: &Client, plan: &Plan, number: u32) -> Result<u64, String> {
    let id = plan.identity(Set::Single, scattered(number, plan.images));
    let path = format!("/studies/{}/series/{}/instances/{}/frames/1", id.study, id.series, id.instance);
    let body = client.get(&path, FRAMES).await?;
    let start = memchr::memmem::find(&body, b"\r\n\r\n").map_or(0, |at| at + 4);
    let long_enough = body.len() - start > FRAME_BYTES && body[start + FRAME_BYTES..].starts_with(b"\r\n--");
    if long_enough { Ok(body.len() as u64) } else { Err(format!("{} bytes, not one frame", body.len())) }
}

async fn metadata(client: &Client, plan: &Plan, number: u32) -> Result<u64, String> {
    let id = plan.identity(Set::Single, number % (plan.images / plan.series_size) * plan.series_size);
    let body = client.get(&format!("/studies/{}/series/{}/metadata", id.study, id.series), JSON).await?;
    let instances = memchr::memmem::find_iter(&body, b"\"00080018\"").count();
    if instances == plan.series_size as usize {
        Ok(body.len() as u64)
    } else {
        Err(format!("metadata of {instances} instances"))
    }
}

/// By Patient ID, accession number, name prefix and a day: what people look for, few matches each.
async fn query(client: &Client, plan: &Plan, number: u32) -> Result<u64, String> {
    let id = plan.identity(Set::Small, scattered(number, plan.studies));
    let condition = match number % 4 {
        0 => format!("PatientID={}", id.patient),
        1 => format!("AccessionNumber={}", id.accession),
        2 => format!("PatientName={}*", id.name.trim_end_matches("^Head")),
        _ => format!("StudyDate={0}-{0}", id.date),
    };
    let body = client.get(&format!("/studies?{condition}&limit=50"), JSON).await?;
    let found = memchr::memmem::find(&body, id.study.as_bytes()).is_some();
    let studies = memchr::memmem::find_iter(&body, b"\"0020000D\"").count();
    if found && (number % 4 == 3 || studies == 1) {
        Ok(body.len() as u64)
    } else {
        Err(format!("{studies} studies for {condition}"))
    }
}

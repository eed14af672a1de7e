//! CPU time and memory of processes and their children, from `/proc`.

use std::fs;
use std::time::Duration;

/// Ticks per second of the times in `/proc/PID/stat`: `USER_HZ`, 100 on every Linux.
const TICKS_PER_SECOND: u64 = 100;

struct Process {
    id: u32,
    parent: u32,
    ticks: u64,
}

/// User and system time of these processes, their living children and those that have ended.
pub fn cpu_time(ids: &[u32]) -> Duration {
    let processes: Vec<Process> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(read)
        .collect();
    let ticks: u64 = family(&processes, ids).map(|process| process.ticks).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// The largest resident size that the processes themselves ever had, added up.
pub fn peak_memory(ids: &[u32]) -> Option<u64> {
    let peaks: Option<Vec<u64>> = ids.iter().map(|id| peak(*id)).collect();
    peaks.filter(|peaks| !peaks.is_empty()).map(|peaks| peaks.into_iter().sum())
}

fn peak(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

fn family<'a>(processes: &'a [Process], ids: &'a [u32]) -> impl Iterator<Item = &'a Process> {
    processes.iter().filter(move |process| {
        let mut at: Option<&Process> = Some(process);
        // a chain of parents ends at process 0, which is not listed
        std::iter::from_fn(|| {
            let this = at?;
            at = processes.iter().find(|other| other.id == this.parent);
            Some(this.id)
        })
        .any(|id| ids.contains(&id))
    })
}

/// Fields of `/proc/PID/stat` (proc_pid_stat(5)); the name, in parentheses, may hold anything.
fn read(id: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    // state is the first after the name: parent the second, utime, stime, cutime, cstime the 12th to the 15th
    Some(Process {
        id,
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)? + number(13)? + number(14)?,
    })
}

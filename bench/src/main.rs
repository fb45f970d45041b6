//! Measurements that anyone can run again: `make bench`, or `make bench CASE=name`; see `bench/README.md`.
//!
//! Each case starts daemons and brokers of its own on this machine, and prints its figures. All figures together are printed
//! as a table at the end, and kept in `bench/results.json`, with a plot beside it. The figures of a single subject, meant
//! for those who work on it, are only printed.

mod bare;
mod compute;
mod cost;
mod figures;
mod growth;
mod idle;
mod isolation;
mod languages;
mod latency;
mod machine;
mod ours;
mod peers;
mod plot;
mod plugins;
mod process;
mod quick;
mod rounds;
mod sandbox;
mod server;
mod settlements;
mod shares;
mod small;
mod spinners;
mod targets;
mod throughput;
mod times;
mod waiting;

use figures::Figures;
use machine::Machine;

/// Case: its name, what it shows, and the function that runs it.
type Case = (&'static str, &'static str, fn(&mut Figures));

const CASES: &[Case] = &[
    (
        "throughput",
        "jobs of a trivial handler, by how many run at once, beside other job systems",
        throughput::run,
    ),
    (
        "latency",
        "from enqueue to start and to settled: idle, at the same load for all, and at half load",
        latency::run,
    ),
    ("idle", "what a daemon costs that has nothing to do", idle::run),
    ("isolation", "quick jobs while somebody else's hogs use the processors, beside BullMQ", isolation::run),
    ("shares", "the fuel that tenants of weight 1 and 3 get, each with endless work", shares::run),
    ("spinners", "quick jobs of one tenant while a thousand jobs of another spin for ever", spinners::run),
    ("plugins", "a thousand plugins deployed, ten used: start-up and memory", plugins::run),
    ("sandbox", "a fresh sandbox for each job, beside a bare loop of wasmtime's calls", sandbox::run),
    ("waiting", "guests that wait, all at once: how many, and the memory of each", waiting::run),
    ("compute", "real work for the processor: natively, in bare wasmtime, as a job", compute::run),
    ("languages", "what a handler costs by the language that it is written in", languages::run),
    ("cost", "what a job costs, counted: commands, bytes, system calls, allocations", cost::run),
    ("growth", "throughput and memory with many jobs, daemons, tenants and plugins", growth::run),
    ("small", "the small steps of a job", small::run),
];

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (wanted, subject) = (arguments.next(), arguments.next());
    let chosen: Vec<&Case> =
        CASES.iter().filter(|(name, ..)| wanted.as_deref().is_none_or(|wanted| wanted == *name)).collect();
    if chosen.is_empty() {
        let all: Vec<String> = CASES.iter().map(|(name, shows, _)| format!("  {name:<12} {shows}")).collect();
        anyhow::bail!("there is no such case; there are:\n{}", all.join("\n"));
    }
    let machine = Machine::this();
    println!("{}", serde_json::to_string_pretty(&machine)?);
    let mut figures = Figures::only(subject.clone());
    let mut done = Vec::new();
    for (name, shows, run) in &chosen {
        println!("\n{name}: {shows}");
        run(&mut figures);
        done.push(*name);
        if subject.is_none() {
            // The figures are kept after each case, whatever becomes of the next one.
            let all = Figures::kept()?.replaced(&done, figures.clone());
            plot::write(&all, &machine)?;
            all.keep(&machine)?;
        }
    }
    println!("\n{}", figures.table());
    if let Some(targets) = targets::table(&figures) {
        println!("{targets}");
    }
    Ok(())
}

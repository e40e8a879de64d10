//! One command writes `benches/RESULTS.md`, `benches/results.svg` and the figures of `README.md`:
//!
//! ```text
//! PEERS=../shared/peers cargo bench --bench results                 run the stand and growth, then write
//! AMQP_URL=amqp://… PEERS=… cargo bench --bench results             and calls by broker
//! PEERS=… cargo bench --bench results -- --reps 9 --quiet 0         options for the stand
//! cargo bench --bench results -- --from STAND.txt GROWTH.txt        write from lines of earlier runs
//! ```
//!
//! `lines.rs` reads, `targets.rs` judges, `figures.rs` chooses, `report.rs` and `picture.rs` write; none of them
//! measures. Their tests are in `tests/results.rs`, for what has no harness has no tests.
//! `benches/profiles.md` is written by people, and copied into the results.

mod figures;
mod lines;
mod picture;
mod report;
mod targets;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

fn main() -> ExitCode {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let bench = arguments.iter().any(|argument| argument == "--bench");
    arguments.retain(|argument| argument != "--bench");
    let from = match arguments.first().map(String::as_str) {
        Some("--from") => arguments[1..].iter().map(PathBuf::from).collect(),
        _ if !bench || arguments.iter().any(|argument| argument == "--test") => {
            println!("results: nothing is measured in a test");
            return ExitCode::SUCCESS;
        }
        _ => match env::var_os("PEERS") {
            Some(peers) => match measure(Path::new(&peers), &arguments) {
                Ok(files) => files,
                Err(error) => return fail(&format!("the measuring stopped: {error}")),
            },
            // Not a failure: a plain `cargo bench` comes here too.
            None => {
                println!(
                    "results: nothing written; PEERS names the measuring stand, --from files of its lines"
                );
                return ExitCode::SUCCESS;
            }
        },
    };
    match write(&from) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("results: {why}");
    ExitCode::FAILURE
}

/// Runs the stand over every workload that has a target, with this crate, and then growth, and calls by broker if there is
/// one. The files stay.
fn measure(peers: &Path, options: &[String]) -> io::Result<Vec<PathBuf>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stand = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stand.txt");
    let mut workloads: Vec<&str> = Vec::new();
    for target in targets::TARGETS {
        if !workloads.contains(&target.workload) {
            workloads.push(target.workload);
        }
    }
    let mut run = Command::new(peers.canonicalize()?.join("run_all.sh"));
    run.env("OURS", here).arg(&stand).args(workloads).args(options);
    // It builds in a directory of its own.
    let status = run.env_remove("CARGO_TARGET_DIR").status()?;
    if !status.success() {
        return Err(io::Error::other(format!("the stand: {status}")));
    }
    let mut files = vec![stand];
    files.push(bench(here, "growth", &[])?);
    if env::var_os("AMQP_URL").is_some() {
        files.push(bench(here, "amqp", &["--features", "amqp"])?);
    }
    Ok(files)
}

/// Runs another bench of this crate, and keeps its lines.
fn bench(here: &Path, name: &str, options: &[&str]) -> io::Result<PathBuf> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("txt");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut run = Command::new(cargo);
    run.current_dir(here).args(["bench", "--bench", name]).args(options).stderr(Stdio::inherit());
    let output = run.output()?;
    fs::write(&file, &output.stdout)?;
    io::stdout().write_all(&output.stdout)?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{name}: {}", output.status)));
    }
    Ok(file)
}

fn write(from: &[PathBuf]) -> io::Result<()> {
    let mut runs = Vec::new();
    for file in from {
        let text = fs::read_to_string(file)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
        runs.extend(lines::read(&text));
    }
    if runs.iter().all(|run| run.tables.is_empty()) {
        return Err(io::Error::other("no lines of the stand in these files: nothing written"));
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let profiles = fs::read_to_string(here.join("benches/profiles.md"))?;
    let readme = here.join("README.md");
    let text = report::readme(&fs::read_to_string(&readme)?, &runs)
        .ok_or_else(|| io::Error::other("README.md has lost the markers of its figures"))?;
    fs::write(here.join("benches/RESULTS.md"), report::results(&runs, &profiles))?;
    fs::write(here.join("benches/results.svg"), picture::svg(&runs))?;
    fs::write(readme, text)?;
    println!("results: wrote benches/RESULTS.md, benches/results.svg and the figures of README.md");
    Ok(())
}

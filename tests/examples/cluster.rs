use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use image::{ImageFormat, Rgb, RgbImage};

use crate::broker::{self, Broker};
use crate::running::{Ran, built, run, run_with};

const NAMES: [&str; 3] = ["a.jpg", "b.png", "c.png"];

/// A directory of its own with three pictures in it.
fn directory(of: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster").join(of);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(directory.join("in")).unwrap();
    for (name, format) in NAMES.into_iter().zip([ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Png]) {
        let picture = RgbImage::from_fn(400, 300, |x, y| Rgb([x as u8, y as u8, (x ^ y) as u8]));
        picture.save_with_format(directory.join("in").join(name), format).unwrap();
    }
    directory
}

/// The arguments of a client that works in that directory.
fn arguments(directory: &Path, url: &str, queue: &str, more: &[&str]) -> Vec<String> {
    let path = |name: &str| directory.join(name).display().to_string();
    let (input, output, timeline) = (path("in"), path("out"), path("timeline.svg"));
    let own =
        ["--url", url, "--queue", queue, "--input", &input, "--output", &output, "--timeline", &timeline];
    own.iter().chain(&["--sizes", "16,40"]).chain(more).map(ToString::to_string).collect()
}

fn cluster(directory: &Path, url: &str, queue: &str, more: &[&str]) -> Ran {
    let arguments = arguments(directory, url, queue, more);
    run("cluster", &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// All thumbnails are there, and in the right size.
fn is_whole(directory: &Path) {
    for name in NAMES {
        for size in [16, 40] {
            let extension = name.rsplit_once('.').unwrap().1;
            let thumbnail =
                image::open(directory.join("out").join(format!("{name}-{size}.{extension}"))).unwrap();
            assert_eq!((thumbnail.width(), thumbnail.height()), (size, size * 3 / 4), "{name}");
        }
    }
}

#[test]
fn one_worker_is_killed_and_every_picture_is_made() {
    let Some(broker) = broker::shared() else { return };
    let (directory, queue) = (directory("killed"), broker.queue("cluster"));
    let said = cluster(&directory, broker.url(), queue.name(), &["--rounds", "30", "--threads", "1"]).well();
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("worker ") && lines[0].ends_with("busy, s"), "{said}");
    let mut calls = 0;
    for (line, name) in lines[1..3].iter().zip(["worker-1", "worker-2"]) {
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words[0], name, "{said}");
        assert_eq!(words.get(6), (name == "worker-2").then_some(&"killed"), "{said}");
        calls += words[2].parse::<usize>().unwrap();
    }
    assert_eq!(calls, 90, "{said}");
    assert!(lines[3].starts_with("90 of 90 pictures made, in 2 sizes each, in "), "{said}");
    let pid = lines[2].split_whitespace().nth(1).unwrap();
    assert!(lines[4].starts_with(&format!("worker-2, process {pid}, was killed when ")), "{said}");
    // It may have been done with that call by the time it was dead.
    let again = lines[4].split_once("run again: ").unwrap().1.parse::<usize>().unwrap();
    assert!(again <= 2, "{said}");
    is_whole(&directory);
    let picture = fs::read_to_string(directory.join("timeline.svg")).unwrap();
    let picture = roxmltree::Document::parse(&picture).unwrap();
    let text: String = picture.descendants().filter_map(|node| node.text()).collect();
    assert!(text.contains("90 tasks") && text.contains("worker-1") && text.contains("worker-2"), "{text}");
}

#[test]
fn what_is_no_picture_is_told_and_all_others_are_made() {
    let Some(broker) = broker::shared() else { return };
    let (directory, queue) = (directory("broken"), broker.queue("cluster"));
    fs::write(directory.join("in/d.txt"), "no picture").unwrap();
    let ran = cluster(&directory, broker.url(), queue.name(), &["--rounds", "2", "--workers", "1"]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert_eq!(ran.stderr, "not made: d.txt: neither a JPEG nor a PNG file\n");
    assert!(ran.stdout.contains("6 of 8 pictures made") && !ran.stdout.contains("killed"), "{ran:?}");
    is_whole(&directory);
}

#[test]
fn what_is_wrong_with_the_broker_is_told() {
    let directory = directory("wrong");
    // Port 1 of loopback: nobody is there.
    let ran = cluster(&directory, "amqp://somebody:a-secret@127.0.0.1:1/cf", "cf.none", &[]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains("cannot be reached"), "{ran:?}");
    assert!(!ran.stderr.contains("a-secret"), "{ran:?}");

    let ran = cluster(&directory, "not a url", "cf.none", &[]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("amqp://user:password@host:5672/vhost"), "{ran:?}");

    let ran = run_with("cluster", &["worker"], &[("AMQP_URL", "")]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("no broker is given"), "{ran:?}");
}

/// A worker that is started by itself, as on another machine. Killed when it is dropped.
struct Elsewhere(Child);

impl Elsewhere {
    fn start(url: &str, name: &str) -> Self {
        let mut command = Command::new(built("cluster"));
        command.args(["worker", "--leash", "--threads", "1", "--url", url, "--name", name]);
        Elsewhere(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_definitions_for_operators_are_what_client_and_worker_need_and_no_more() {
    let definitions =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cluster/rabbitmq-definitions.json");
    let text = fs::read_to_string(definitions).unwrap();
    let mut definitions: serde_json::Value = serde_json::from_str(&text).unwrap();
    for user in definitions["users"].as_array_mut().unwrap() {
        assert_eq!(user["password_hash"], "", "nobody has a password before the operator gives him one");
        let user = user.as_object_mut().unwrap();
        user.remove("password_hash");
        user.remove("hashing_algorithm");
        user.insert("password".into(), "a-secret".into());
    }
    // One who may have a queue of his own, and get no calls.
    let half = serde_json::json!({"name": "half", "password": "a-secret", "tags": []});
    definitions["users"].as_array_mut().unwrap().push(half);
    let (held, write) = (r"^cf\.cluster\.held\..*$", r"^amq\.default$");
    let may =
        serde_json::json!({"user": "half", "vhost": "cf", "configure": held, "write": write, "read": held});
    definitions["permissions"].as_array_mut().unwrap().push(may);
    let directory = directory("definitions");
    // The broker's user is to read it.
    let file = std::env::temp_dir().join(format!("cf-definitions-{}.json", std::process::id()));
    fs::write(&file, definitions.to_string()).unwrap();
    let broker = Broker::own_with(&format!("load_definitions = {}", file.display()));
    fs::remove_file(&file).unwrap();
    let Some(broker) = broker else { return };
    let at = broker.url().split_once('@').unwrap().1;
    let [client, worker, half] =
        ["cf-client", "cf-worker", "half"].map(|user| format!("amqp://{user}:a-secret@{at}"));

    let mut elsewhere = Elsewhere::start(&worker, "elsewhere");
    let ran = cluster(&directory, &client, "cf.cluster", &["--rounds", "2", "--workers", "0"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stdout.lines().nth(1).unwrap().starts_with("elsewhere "), "{ran:?}");
    is_whole(&directory);
    drop(elsewhere.0.stdin.take());
    let said = BufReader::new(elsewhere.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!(said.filter(|line| line.starts_with("begins ")).count(), 6);
    assert!(elsewhere.0.wait().unwrap().success());

    // A worker's user has no replies, and a client's gets no calls.
    let ran = cluster(&directory, &worker, "cf.cluster", &["--workers", "0"]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("ACCESS_REFUSED"), "{ran:?}");
    for (url, queue) in [(&client, "'cf.cluster.held."), (&half, "'cf.cluster'")] {
        let ran = run("cluster", &["worker", "--url", url]);
        assert_eq!(ran.status, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(queue) && ran.stderr.contains("ACCESS_REFUSED"), "{ran:?}");
    }
    let refused = broker::on_a_channel(&client, async |channel| {
        let options = lapin::options::BasicConsumeOptions::default();
        channel.basic_consume("cf.cluster".into(), "".into(), options, Default::default()).await.map(drop)
    });
    assert!(refused.unwrap_err().to_string().contains("ACCESS_REFUSED"));
}

/// For reading; so it is to be readable.
#[test]
fn the_manifests_name_what_is_there() {
    let read = |name: &str| {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cluster").join(name)).unwrap()
    };
    for name in ["docker-compose.yml", "kubernetes.yaml"] {
        let text = read(name);
        assert!(text.contains("AMQP_URL"), "{name}: the variable that the example reads");
        assert!(text.contains("worker"), "{name}: the subcommand");
    }
    assert!(read("Dockerfile").contains("--features amqp --example cluster"));
}

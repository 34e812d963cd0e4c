//! What the commands promise: they say what is wrong, and leave nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::support::{TopologyFile, Up, lab, named, text, text_of};

pub const TESTS: &[(&str, fn())] = &[
    ("nothing_is_left_behind", nothing_is_left_behind),
    ("a_failed_up_leaves_nothing_behind", a_failed_up_leaves_nothing_behind),
    ("exec_passes_input_output_and_exit_code", exec_passes_everything),
    ("a_laboratory_is_raised_once", a_laboratory_is_raised_once),
    ("a_wrong_file_is_refused_with_line_and_field", a_wrong_file_is_refused),
    ("unknown_names_are_answered_with_known_ones", unknown_names),
    ("files_and_services_are_there", files_and_services),
    ("a_service_is_restarted_in_its_place", a_service_is_restarted),
    ("status_tells_who_has_ended", status_tells_who_has_ended),
];

const FULL: &str = "
links: { lan: {}, wan: { delay: 1ms }, hub: {} }
hosts:
  a:
    interfaces: { lan: { address: [10.9.1.1/24] }, hub: { address: [10.9.3.1/24] } }
    services: { spawn: { command: 'sleep 600 & sleep 600 & (setsid sleep 600 &) ; exec iperf3 -s', ready: tcp 5201 } }
  b: { interfaces: { lan: { address: [10.9.1.2/24] }, wan: { address: [10.9.2.2/24] }, hub: {} } }
  c: { interfaces: { wan: { address: [10.9.2.3/24] }, hub: {} } }
";

/// The namespaces, state, devices and processes of the machine that are those of a test.
fn inventory() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let list = |path: &str| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(move |entry| entry.path().display().to_string()).collect::<Vec<_>>()
    };
    let own = |path: &String| path.contains("fwlab");
    all.extend(list("/run/netns").into_iter().filter(own));
    all.extend(list("/run/fairway-lab").into_iter().filter(own));
    let devices = text(&Command::new("ip").args(["-br", "link"]).output().unwrap().stdout);
    let ours = |line: &&str| ["lan", "wan", "hub"].iter().any(|name| line.starts_with(name));
    all.extend(devices.lines().filter(ours).map(str::to_owned));
    for process in list("/proc") {
        let words = fs::read(format!("{process}/cmdline")).unwrap_or_default();
        let environment = fs::read(format!("{process}/environ")).unwrap_or_default();
        let words = text(&words).replace('\0', " ");
        if words.contains("fwlab") || text(&environment).contains("FAIRWAY_LAB_PROGRAM=fwlab") {
            all.insert(words);
        }
    }
    all
}

fn nothing_is_left_behind() {
    let before = inventory();
    {
        let up = Up::new("fwlab-clean", FULL);
        up.exec("a", "ping -n -c 1 -W 2 10.9.1.2");
        up.exec("b", "ping -n -c 1 -W 2 10.9.2.3");
        let during = inventory();
        assert!(during.iter().any(|entry| entry.contains("wire.json")), "{during:?}");
        assert!(during.contains("/run/netns/fwlab-clean-hub"), "{during:?}");
        assert!(during.iter().any(|entry| entry.starts_with("sleep 600")), "{during:?}");
    }
    let after = inventory();
    assert_eq!(after.symmetric_difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
}

fn a_failed_up_leaves_nothing_behind() {
    let before = inventory();
    let broken = format!(
        "name: fwlab-broken{FULL}  d: {{ services: {{ bad: {{ command: 'echo out of luck; exit 3', ready: tcp 1 }} }} }}\n"
    );
    let file = TopologyFile::new("fwlab-broken", &broken);
    let output = lab(&["up", file.as_str()]);
    let message = text(&output.stderr);
    assert!(!output.status.success());
    assert!(message.contains("bad of d did not start") && message.contains("exit status: 3"), "{message}");
    assert!(message.contains("out of luck"), "the end of the log is missing: {message}");
    let late =
        broken.replace("exit 3", "exec sleep 600").replace("ready: tcp 1", "ready: tcp 1, deadline: 200ms");
    fs::write(file.path(), late).unwrap();
    let message = text(&lab(&["up", file.as_str()]).stderr);
    assert!(message.contains("nothing listened on TCP port 1 within its deadline"), "{message}");
    assert_eq!(inventory(), before);
}

fn exec_passes_everything() {
    let up = Up::new("fwlab-exec", "hosts: { a: {} }");
    assert_eq!(up.try_exec("a", "sh -c exit${IFS}42").status.code(), Some(42));
    assert!(!up.exec("a", "ip -br link").contains("@if"), "a host without links has one");
    let shell = "read -r word; echo out $word; echo err $word >&2";
    let executable = std::env::current_exe().unwrap();
    let mut child = Command::new(executable)
        .args(["lab", "exec", "--lab", "fwlab-exec", "a", "--", "sh", "-c", shell])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("out hello\n".into(), "err hello\n".into()));
}

fn a_laboratory_is_raised_once() {
    let _up = Up::new("fwlab-once", "hosts: { a: {} }");
    let file = TopologyFile::new("fwlab-once-again", "name: fwlab-once\nhosts: { a: {} }");
    let again = lab(&["up", file.as_str()]);
    assert!(!again.status.success());
    assert!(text(&again.stderr).contains("`fairway lab down fwlab-once`"), "{}", text_of(&again));
    let foreign = TopologyFile::new("fwlab-foreign", "name: fwlab\nhosts: { once-a: {} }");
    let taken = lab(&["up", foreign.as_str()]);
    assert!(text(&taken.stderr).contains("namespace fwlab-once-a exists"), "{}", text_of(&taken));
}

fn a_wrong_file_is_refused() {
    let file = TopologyFile::new("fwlab-wrong", "name: fwlab-wrong\nlinks:\n  wan:\n    dealy: 10ms\n");
    let message = text(&lab(&["up", file.as_str()]).stderr);
    assert!(message.contains("fwlab-wrong.yaml:4: links.wan.dealy: unknown field"), "{message}");
    let message = text(&lab(&["up", "/nonexistent/lab.yaml"]).stderr);
    assert!(message.contains("/nonexistent/lab.yaml: No such file"), "{message}");
}

fn unknown_names() {
    let up = Up::new("fwlab-names", &format!("{FULL}\n"));
    let message = text(&up.try_exec("nobody", "true").stderr);
    assert!(message.contains("no `nobody`; it has a, b, c, hub, wan"), "{message}");
    let message = text(&up.link(&["lan"]).stderr);
    assert!(message.contains("link lan is a plain link"), "{message}");
    let message = text(&lab(&["down", "fwlab-nowhere"]).stderr);
    assert!(
        message.contains("fwlab-nowhere is not up; up: ") && message.contains("fwlab-names"),
        "{message}"
    );
}

fn files_and_services() {
    let up = Up::new(
        "fwlab-files",
        "
links: { lan: {} }
hosts:
  web:
    interfaces: { lan: { address: [10.9.0.1/24] } }
    sysctl: { net.ipv4.tcp_ecn: 1 }
    files:
      nginx.conf: |
        daemon off;
        pid {dir}/pid;
        error_log {dir}/error.log;
        events {}
        http { access_log off; server { listen 80; location / { return 200 'from {dir}\\n'; } } }
    services:
      nginx: { command: 'exec nginx -c {dir}/nginx.conf -e {dir}/error.log', ready: tcp 80 }
      note: { command: 'touch {dir}/done', ready: 'file {dir}/done' }
      names: { command: 'exec dnsmasq -k -p 53 --no-resolv --no-hosts -x {dir}/dns.pid', ready: udp 53 }
      probe: { command: 'sleep 600', ready: 'command test -f {dir}/done' }
  client: { interfaces: { lan: { address: [10.9.0.2/24] } } }
",
    );
    let page = up.exec("client", "curl -s http://10.9.0.1/");
    assert_eq!(page, "from /run/fairway-lab/fwlab-files/web\n");
    assert_eq!(up.exec("web", "cat /proc/sys/net/ipv4/tcp_ecn").trim(), "1");
    let status = up.status();
    let programs = named(&status["nodes"], "name", "web")["programs"].as_array().unwrap().clone();
    let running: Vec<&str> =
        programs.iter().filter(|p| p["running"] == true).map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(running, ["names", "nginx", "probe"]);
}

fn a_service_is_restarted() {
    let up = Up::new("fwlab-restart", &format!("{FULL}\n"));
    let pid = |up: &Up| named(&up.status()["nodes"], "name", "a")["programs"][0]["pid"].as_u64().unwrap();
    let before = pid(&up);
    let output = lab(&["restart", "--lab", "fwlab-restart", "a", "spawn"]);
    assert!(output.status.success(), "{}", text_of(&output));
    assert_ne!(pid(&up), before);
    up.exec("a", "iperf3 -c 127.0.0.1 -t 1");
    // A wire is a program of its link.
    let output = lab(&["restart", "--lab", "fwlab-restart", "wan"]);
    assert!(output.status.success(), "{}", text_of(&output));
    up.exec("b", "ping -n -c 1 -W 2 10.9.2.3");
    let message = text(&lab(&["restart", "--lab", "fwlab-restart", "b"]).stderr);
    assert!(message.contains("no `b`; it has") && message.contains("a spawn"), "{message}");
}

fn status_tells_who_has_ended() {
    let up = Up::new(
        "fwlab-ended",
        "hosts: { a: { services: { brief: { command: 'echo bye', ready: 'command grep -q bye {dir}/brief.log' } } } }",
    );
    let output = text(&lab(&["status", "fwlab-ended"]).stdout);
    assert!(output.contains("brief ENDED, see /run/fairway-lab/fwlab-ended/a/brief.log"), "{output}");
    drop(up);
}

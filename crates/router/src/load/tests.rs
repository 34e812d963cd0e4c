use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::files::Places;

pub(crate) const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fairway-router-load-{}-{name}", std::process::id()));
        fs::create_dir_all(path.join("keys")).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

fn here(config: &Path) -> Files {
    Files::here(Places { config: config.into(), socket: "none".into(), session_log: None })
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn document() -> String {
    let router = |name: &str, address: &str| {
        serde_json::json!({
            "name": name,
            "node": [{"name": "one", "device-interface": [{"name": "wan", "network-interface": [{
                "name": "wan", "type": "fabric",
                "address": [{"ip-address": address, "prefix-length": 24}],
                "neighborhood": [{"name": "internet", "topology": "mesh"}]
            }]}]}]
        })
    };
    serde_json::json!({"fairway:authority": {
        "name": "acme",
        "router": [router("branch", "198.51.100.1"), router("dc", "198.51.100.2")]
    }})
    .to_string()
}

#[test]
fn a_configuration_with_its_keys_is_loaded() {
    let directory = Directory::new("whole");
    let config = directory.write("acme.json", &document(), 0o644);
    directory.write("keys/branch--dc.key", KEY, 0o640);
    let loaded = load(&here(&config), &config, "branch").map_err(|refused| format!("{refused:?}")).unwrap();
    assert_eq!(loaded.snapshot.model().router, "branch");
    assert_eq!(loaded.keys.len(), 1);
    assert_eq!(loaded.keys[0].name, "dc");
    assert_eq!(loaded.waypoints, ["198.51.100.2".parse::<IpAddr>().unwrap()]);
    let [port] = loaded.ports.as_slice() else { panic!("{:?}", loaded.ports) };
    assert_eq!((port.name.as_str(), port.device.as_str()), ("wan", "wan"));
    assert_eq!(port.waypoints.len(), 1);
}

#[test]
fn every_fault_of_the_files_is_named_with_its_fix() {
    let directory = Directory::new("faults");
    let config = directory.write("acme.json", &document(), 0o644);
    let fault = |name: &str| load(&here(&config), &config, name).err().unwrap().faults.remove(0);

    let missing = fault("branch");
    assert!(missing.problem.contains("does not exist"), "{missing:?}");
    assert!(missing.problem.contains("branch--dc.key") && missing.fix.contains("fairway key generate"));

    let key = directory.write("keys/branch--dc.key", KEY, 0o644);
    let open = fault("branch");
    assert!(open.problem.contains("mode 644"), "{open:?}");
    assert!(open.fix.starts_with("chmod 600 /"), "{open:?}");

    directory.write("keys/branch--dc.key", "short\n", 0o600);
    assert!(fault("branch").problem.contains("5 characters"));
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(fault("branch").problem.contains("not a regular file"));

    let nobody = fault("nobody");
    assert_eq!(nobody.severity, "error");
    directory.write("acme.json", "{", 0o644);
    assert!(fault("branch").problem.contains("not a JSON document"));
    fs::remove_file(&config).unwrap();
    assert!(fault("branch").problem.contains("cannot be opened"));
}

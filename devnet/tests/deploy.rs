//! The example configurations in `deploy/` are what the programs read: kept true by reading them.

use std::path::{Path, PathBuf};

use asset::Network;
use devnet::programs::Programs;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

#[test]
fn the_examples_are_read_by_the_services() {
    let signer = signer::config::Config::load(&deploy("signer.toml")).unwrap();
    assert!(!signer.development && !signer.i_understand_that_softhsm_is_not_an_hsm);
    assert!(signer.token.socket.is_some(), "the token worker belongs to a user of its own");
    let watcher = watcher::config::Config::load(&deploy("watcher.toml")).unwrap();
    assert!(!watcher.development);
    assert_eq!((signer.network, watcher.network), (Network::Signet, Network::Signet));
    let operator = watcher::operator::Settings::load(&deploy("operator.toml")).unwrap();
    assert_eq!(operator.tls.key, deploy("operator.key"));
}

#[test]
fn the_policy_is_one_and_names_the_watchers_wallets() {
    let file = deploy("policy.toml");
    let check = ["policy", "check", "--network=signet", file.to_str().unwrap()];
    let said = Programs::find().unwrap().run("officer", &check).unwrap();
    let watcher = watcher::config::Config::load(&deploy("watcher.toml")).unwrap();
    for wallet in &watcher.wallets {
        assert!(said.contains(&wallet.name), "{said}");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            text.contains(&wallet.descriptor),
            "the policy has another descriptor for {}",
            wallet.name
        );
    }
    // What the watcher may evacuate by is a lane there, with the same caps.
    let text = std::fs::read_to_string(&file).unwrap();
    let [evacuation] = &watcher.spend.evacuations[..] else { panic!("one lane to evacuate by") };
    let lane = text.split_once("[[evacuate]]").unwrap().1.split("\n[").next().unwrap();
    assert!(lane.contains(&format!("name = \"{}\"", evacuation.lane)), "{lane}");
    assert!(lane.contains("max_total = \"0.1 BTC\"") && evacuation.fee_max.to_sat() == 10_000_000);
    assert!(lane.contains(&format!("max_feerate = \"{}\"", evacuation.feerate_max)), "{lane}");
}

#[test]
fn the_signer_looks_for_its_configuration_where_it_is_deployed() {
    let unit = std::fs::read_to_string(deploy("systemd/cofferdam-signer.service")).unwrap();
    let place = unit.split_once("--config ").unwrap().1.split_whitespace().next().unwrap();
    let help = Programs::find().unwrap().run("signer", &["--help"]).unwrap();
    assert!(help.contains(&format!("[default: {place}]")), "{help}");
}

#[test]
fn units_and_configurations_agree() {
    let read = |name: &str| std::fs::read_to_string(deploy(name)).unwrap();
    let signer = signer::config::Config::load(&deploy("signer.toml")).unwrap();
    let unit = read("systemd/cofferdam-signer.service");
    assert!(unit.contains(&format!("SocketBindAllow=ipv4:tcp:{}", signer.listen.port())));
    let socket = read("systemd/cofferdam-token.socket");
    let path = signer.token.socket.unwrap();
    assert!(socket.contains(&format!("ListenStream={}", path.display())));
    let unit = read("systemd/cofferdam-token@.service");
    assert!(
        unit.contains("--pin-credential user-pin") && unit.contains("LoadCredential=user-pin:")
    );
    let watcher = watcher::config::Config::load(&deploy("watcher.toml")).unwrap();
    let unit = read("systemd/cofferdam-watcher.service");
    assert!(unit.contains(&format!("SocketBindAllow=ipv4:tcp:{}", watcher.listen.port())));
    for name in ["signer", "token@", "watcher", "webhooks", "reconcile"] {
        let unit = read(&format!("systemd/cofferdam-{name}.service"));
        for line in [
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "MemoryDenyWriteExecute=yes",
            "LimitCORE=0",
        ] {
            assert!(unit.contains(line), "{name} without {line}");
        }
    }
}

/// What else runs by units: the relay's settings, and the hourly comparison, which is started by its timer alone.
#[test]
fn units_beside_the_services_start_what_is_there() {
    let read = |name: &str| std::fs::read_to_string(deploy(name)).unwrap();
    let relay = read("systemd/cofferdam-webhooks.service");
    let mut command = std::process::Command::new("python3");
    let output = command.arg(deploy("officer-webhooks")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let words = relay.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    for option in words.split(' ').filter(|word| word.starts_with("--")) {
        assert!(help.contains(option), "{option}: {help}");
    }
    let compare = read("systemd/cofferdam-reconcile.service");
    let words = compare.lines().filter_map(|line| line.strip_prefix("ExecStart=")).nth(1).unwrap();
    let help = Programs::find().unwrap().run("officer", &["log", "reconcile", "--help"]).unwrap();
    for option in words.split(' ').filter(|word| word.starts_with("--")) {
        assert!(help.contains(option), "{option}: {help}");
    }
    assert!(compare.contains("Type=oneshot") && !compare.contains("[Install]"));
    assert!(read("systemd/cofferdam-reconcile.timer").contains("OnCalendar=hourly"));
    let users = read("sysusers.d/cofferdam.conf");
    for unit in [relay, compare] {
        let user = unit.lines().find_map(|line| line.strip_prefix("User=")).unwrap().to_owned();
        assert!(users.contains(&format!("u     {user} ")), "{user}");
    }
}

//! A house's settings as a file, for a signer in a process of its own.

use crate::house::House;

/// The house's settings: with these lines more at the top, under `[token]`, and at the end.
pub(crate) fn settings(house: &House, top: &str, token_too: &str, end: &str) -> String {
    let (config, token) = (&house.config, &house.config.token);
    let officer = config.officers.keys.iter().next().unwrap();
    let env: Vec<_> = token.env.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
    format!(
        "network = \"regtest\"\nlisten = \"{}\"\nstate_dir = {:?}\npolicy = {:?}\nallow_root = true\n{top}\
         [officers]\nquorum = 1\nkeys = {{ {} = {:?} }}\n\
         [tls]\ncertificate = {:?}\nkey = {:?}\nca = {:?}\n\
         [token]\nmodule = {:?}\nlabel = {:?}\npin_file = {:?}\nworker = {:?}\nenv = {{ {} }}\n{token_too}{end}",
        config.listen,
        config.state_dir,
        config.policy,
        officer.0,
        officer.1,
        config.tls.certificate,
        config.tls.key,
        config.tls.ca,
        token.module.as_ref().unwrap(),
        token.label.as_ref().unwrap(),
        token.pin_file.as_ref().unwrap(),
        token.worker.as_ref().unwrap(),
        env.join(", "),
    )
}

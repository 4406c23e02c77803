use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    let home = [("HOME", "/home/nobody")];
    let own = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
    home.iter().chain(variables).map(own).collect()
}

fn from_environment(variables: &[(&str, &str)]) -> Result<Config, Error> {
    let overrides = Overrides { data_dir: Some("/nonexistent".into()), ..Overrides::default() };
    Ok(load(&overrides, &environment(variables))?.config)
}

fn from_file(text: &str) -> Result<Config, Error> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.toml"), text).unwrap();
    let overrides = Overrides { data_dir: Some(dir.path().to_owned()), ..Overrides::default() };
    Ok(load(&overrides, &environment(&[]))?.config)
}

#[test]
fn nothing_set_is_the_default() {
    assert_eq!(from_environment(&[]).unwrap(), Config::default());
    assert_eq!(from_file("").unwrap(), Config::default());
}

#[test]
fn variables_set_every_kind_of_value() {
    let config = from_environment(&[
        ("ESTUARY_GATEWAY__LISTEN", "127.0.0.1:0"),
        ("ESTUARY_API__HOSTS", "box.local, box.local:3004"),
        ("estuary_http__grace_ms", "5000"),
        ("ESTUARY_GATEWAY__TRUSTED_PROXIES", "192.0.2.0/24"),
        ("ESTUARY_LOG__LEVEL", "debug"),
        ("ESTUARY_LOG__FORMAT", "json"),
        ("ESTUARY_GATEWAY__URL", ""),
        ("ESTUARY_ROUTING__DELEGATED", ""),
        ("ESTUARY_OFFLINE", "1"),
        ("ESTUARY_PORT", "tcp://192.0.2.1:80"),
    ])
    .unwrap();
    assert_eq!(config.gateway.listen, Some("127.0.0.1:0".parse().unwrap()));
    assert_eq!(config.gateway.url, None);
    assert!(config.routing.delegated.is_empty());
    assert_eq!(config.api.hosts, ["box.local", "box.local:3004"]);
    assert_eq!(config.http.grace_ms, 5000);
    assert_eq!(config.gateway.trusted_proxies, ["192.0.2.0/24".parse().unwrap()]);
    assert_eq!(config.log.level, "debug");
    assert!(config.offline);
    assert!(!from_environment(&[("ESTUARY_OFFLINE", "false")]).unwrap().offline);
}

#[test]
fn later_sources_win() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("other.toml");
    std::fs::write(&file, "offline = false\n[http]\ngrace_ms = 1\nrequests_max = 2").unwrap();
    let overrides =
        Overrides { data_dir: Some(dir.path().to_owned()), config: Some(file), offline: true };
    let variables = environment(&[("ESTUARY_HTTP__GRACE_MS", "3"), ("ESTUARY_OFFLINE", "0")]);
    let loaded = load(&overrides, &variables).unwrap();
    let http = &loaded.config.http;
    assert_eq!((http.grace_ms, http.requests_max, loaded.config.offline), (3, 2, true));
}

#[test]
fn a_complaint_names_the_key_the_value_and_where_it_was_set() {
    let check = |outcome: Result<Config, Error>, parts: &[&str]| {
        let said = outcome.unwrap_err().to_string();
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in {said:?}");
        }
    };
    check(from_file("[http]\ngrace = 1"), &["http.grace = 1", "config.toml", "grace_ms"]);
    check(from_file("[htttp]\ngrace_ms = 1"), &["htttp.grace_ms", "unknown field", "`gateway`"]);
    check(from_file("[http]\ngrace_ms = \"x\""), &["http.grace_ms = \"x\"", "u64"]);
    check(from_file("http = 1"), &["http = 1", "config.toml"]);
    check(from_file("[http"), &["config.toml", "line 1"]);
    check(
        from_file("[http]\nhead_timeout_ms = 0"),
        &["head_timeout_ms = 0", "config.toml", "from 10"],
    );
    check(from_file("[admin]\nlisten = \"0.0.0.0:1\""), &["admin.listen = 0.0.0.0:1", "no keys"]);
    check(from_file("[gateway]\nurl = \"gateway.example\""), &["gateway.url", "https://"]);
    check(from_file("[gateway]\nurl = \"https://a.example/x\""), &["gateway.url"]);
    check(from_file("[log]\nlevel = \"info,estuary=loud\""), &["log.level", "debug"]);
    let variable = |name, value| from_environment(&[(name, value)]);
    check(
        variable("ESTUARY_GATEWAY__LISTEN", "8080"),
        &["gateway.listen", "8080", "ESTUARY_GATEWAY__LISTEN"],
    );
    check(variable("ESTUARY_HTTP__GRACE", "1"), &["http.grace", "unknown field", "grace_ms"]);
    check(variable("ESTUARY_HTTP__GRACE_MS", "-1"), &["http.grace_ms = -1"]);
    let absent = Overrides { config: Some("/nonexistent/x.toml".into()), ..Overrides::default() };
    let said = load(&absent, &environment(&[])).unwrap_err().to_string();
    assert!(said.contains("/nonexistent/x.toml"), "{said}");
}

#[test]
fn data_goes_where_it_is_told_or_where_the_platform_keeps_it() {
    let dir = |variables: &[(&str, &str)]| {
        load(&Overrides::default(), &environment(variables)).map(|loaded| loaded.data_dir)
    };
    assert_eq!(dir(&[("ESTUARY_DATA_DIR", "/srv/e")]).unwrap(), Path::new("/srv/e"));
    if cfg!(target_os = "linux") {
        assert_eq!(dir(&[("XDG_DATA_HOME", "/d")]).unwrap(), Path::new("/d/estuary"));
        let home = dir(&[("XDG_DATA_HOME", "relative")]).unwrap();
        assert_eq!(home, Path::new("/home/nobody/.local/share/estuary"));
    }
    let nowhere = load(&Overrides::default(), &Environment::default());
    assert!(matches!(nowhere, Err(Error::NoDataDir)));
}

#[test]
fn the_name_map_of_other_gateways_is_taken_and_checked() {
    let map = "a.example:/ipfs/bafkqaaa,b.example:/ipns/a.example";
    let config = from_environment(&[("IPFS_NS_MAP", map)]).unwrap();
    assert_eq!(config.routing.names.join(","), map);
    let both = [("IPFS_NS_MAP", map), ("ESTUARY_ROUTING__NAMES", "c.example:/ipfs/bafkqaaa")];
    assert_eq!(from_environment(&both).unwrap().routing.names, ["c.example:/ipfs/bafkqaaa"]);
    let error = from_environment(&[("IPFS_NS_MAP", "a.example")]).unwrap_err().to_string();
    assert!(error.contains("IPFS_NS_MAP") && error.contains("name:/ipfs/"), "{error}");
}

#[test]
fn hosts_are_names_and_what_is_none_says_why() {
    let variable = "ESTUARY_GATEWAY__SUBDOMAIN_HOSTS";
    let config = from_environment(&[(variable, "localhost, *.Gateway.example")]).unwrap();
    let hosts: Vec<String> = config.gateway.subdomain_hosts.into_iter().map(String::from).collect();
    assert_eq!(hosts, ["localhost", "*.gateway.example"]);
    for (value, says) in [
        ("127.0.0.1", "subdomains"),
        ("localhost,[::1]", "subdomains"),
        ("localhost:8080", "port"),
        ("*", "must be known"),
    ] {
        let error = from_environment(&[(variable, value)]).unwrap_err().to_string();
        assert!(error.contains(variable) && error.contains(says), "{value}: {error}");
    }
    let config = from_environment(&[("ESTUARY_GATEWAY__DNSLINK_HOSTS", "*")]).unwrap();
    assert!(config.gateway.dnslink_hosts.iter().all(crate::gateway::HostPattern::is_every));
}

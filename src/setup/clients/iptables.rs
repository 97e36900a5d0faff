//! iptables and nftables: what leaves for port 443 is led to seawall, which reads from the TLS
//! greeting where it was meant to go.

use std::net::IpAddr;

use super::environment::{ONCE, root_in_store, whole};
use super::seen;
use crate::http::origin::Host;
use crate::setup::{Facts, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Dns];

const DIRECTORY: &str = "/etc/seawall/setup/iptables";
/// Interfaces behind which containers and pods are: docker's, podman's, a cluster's.
const BRIDGES: &[&str] = &["docker0", "br-*", "podman*", "cni*"];
/// As seawall.service names it.
const USER: &str = "seawall";

/// Where seawall is, seen from the machine whose rules these are.
enum Place {
    /// Here: REDIRECT, and what seawall itself sends is left alone.
    Here,
    /// At an address: DNAT.
    There(IpAddr),
}

pub(super) fn plan(facts: &Facts, _: Mode) -> Plan {
    let port = facts.address.port;
    let place = match &facts.address.host {
        Host::Ip(ip) if !ip.is_loopback() && !ip.is_unspecified() => Place::There(*ip),
        _ => Place::Here,
    };
    let mut files = vec![root_in_store(facts), whole(format!("{DIRECTORY}/seawall.nft"), nftables(&place, port))];
    let mut instead = Vec::new();
    for (version, tool) in [(4, "iptables"), (6, "ip6tables")] {
        if matches!(&place, Place::There(ip) if ip.is_ipv4() != (version == 4)) {
            continue;
        }
        let path = format!("{DIRECTORY}/rules.v{version}");
        instead.push(format!("  {tool}-restore --noflush {path}"));
        instead.extend(["OUTPUT", "PREROUTING"].map(|chain| jump(tool, chain)));
        files.push(whole(path, iptables(&place, port, version)));
    }
    let commands = vec![facts.store.command.clone(), format!("nft -f {DIRECTORY}/seawall.nft")];
    let mut notes = notes(&place);
    notes.push(format!("Where there is no nft, this does the same, and may be run again.\n{}", instead.join("\n")));
    let old = ["iptables", "ip6tables"].map(|tool| {
        let chain = |chain| format!("{tool} -t nat -D {chain} -p tcp --dport 443 -j SEAWALL-{chain}");
        format!("  {}; {}", chain("OUTPUT"), chain("PREROUTING"))
    });
    let undo = format!(
        "The rules count until the machine restarts: nft delete table inet seawall, and take the include out of /etc/nftables.conf. Those of \
         iptables go by this.\n{}",
        old.join("\n")
    );
    Plan { files, commands, check: vec![seen::fetched()], notes, undo: vec![undo] }
}

/// Once, however often it is run.
fn jump(tool: &str, chain: &str) -> String {
    let rule = format!("{chain} -p tcp --dport 443 -j SEAWALL-{chain}");
    format!("  {tool} -t nat -C {rule} 2>/dev/null || {tool} -t nat -A {rule}")
}

fn nftables(place: &Place, port: u16) -> String {
    let (own, verdict) = match place {
        Place::Here => (format!("    meta skuid \"{USER}\" return\n"), format!("redirect to :{port}")),
        Place::There(IpAddr::V4(ip)) => (String::new(), format!("dnat ip to {ip}:{port}")),
        Place::There(IpAddr::V6(ip)) => (String::new(), format!("dnat ip6 to [{ip}]:{port}")),
    };
    let bridge = |name: &&str| format!("    iifname \"{name}\" tcp dport 443 {verdict}\n");
    let bridges: String = BRIDGES.iter().map(bridge).collect();
    let other = match place {
        Place::Here => String::new(),
        Place::There(ip) => other_family(*ip),
    };
    format!(
        "#!/usr/sbin/nft -f\n# seawall: takes the place of what it was before. Gone by: nft delete table inet seawall\ntable inet \
         seawall\ndelete table inet seawall\ntable inet seawall {{\n  chain output {{\n    type nat hook output priority -100; policy \
         accept;\n{own}    fib daddr type local return\n    tcp dport 443 {verdict}\n  }}\n  chain prerouting {{\n    type nat hook prerouting \
         priority -100; policy accept;\n    fib daddr type local return\n{bridges}  }}\n{other}}}\n"
    )
}

/// Connections of the family in which seawall has no address are refused, so that clients take the
/// other.
fn other_family(ip: IpAddr) -> String {
    let family = if ip.is_ipv4() { "ipv6" } else { "ipv4" };
    let rule = format!("meta nfproto {family} tcp dport 443 reject with tcp reset");
    let bridge = |name: &&str| format!("    iifname \"{name}\" {rule}\n");
    let bridges: String = BRIDGES.iter().map(bridge).collect();
    format!(
        "  chain refuse-output {{\n    type filter hook output priority 0; policy accept;\n    fib daddr type local return\n    {rule}\n  }}\n  \
         chain refuse-forward {{\n    type filter hook forward priority 0; policy accept;\n{bridges}  }}\n"
    )
}

/// Chains of our own: `--noflush` empties them and leaves the rest.
fn iptables(place: &Place, port: u16, version: u8) -> String {
    let (own, verdict) = match place {
        Place::Here => (
            format!("-A SEAWALL-OUTPUT -m owner --uid-owner {USER} -j RETURN\n"),
            format!("REDIRECT --to-ports {port}"),
        ),
        Place::There(IpAddr::V4(ip)) => (String::new(), format!("DNAT --to-destination {ip}:{port}")),
        Place::There(IpAddr::V6(ip)) => (String::new(), format!("DNAT --to-destination [{ip}]:{port}")),
    };
    let bridge = |name: &&str| format!("-A SEAWALL-PREROUTING -i {} -p tcp -j {verdict}\n", name.replace('*', "+"));
    let bridges: String = BRIDGES.iter().map(bridge).collect();
    format!(
        "# seawall, IPv{version}\n*nat\n:SEAWALL-OUTPUT - [0:0]\n:SEAWALL-PREROUTING - [0:0]\n{own}-A SEAWALL-OUTPUT -m addrtype --dst-type \
         LOCAL -j RETURN\n-A SEAWALL-OUTPUT -p tcp -j {verdict}\n-A SEAWALL-PREROUTING -m addrtype --dst-type LOCAL -j \
         RETURN\n{bridges}COMMIT\n"
    )
}

fn notes(place: &Place) -> Vec<String> {
    let mut notes = vec![
        "All HTTPS of the machine and its containers takes this way, not the registries' alone: seawall passes through what is no registry, \
         unless [tunnel] refuses it. What is not TLS on port 443 is lost."
            .to_owned(),
        "Containers have roots of their own: what pulls within one needs seawall's there.".to_owned(),
        format!("After a restart of the machine the rules are lost: include \"{DIRECTORY}/seawall.nft\" in /etc/nftables.conf, or use \
                 iptables-persistent."),
        ONCE.to_owned(),
    ];
    match place {
        Place::Here => {
            notes.push(format!(
                "These rules are for the machine on which seawall runs, as user {USER}, which must exist when they are loaded (with \
                 seawall.service: while it runs): its own connections are left alone. Give --address IP:PORT for another machine's."
            ));
            notes.push(
                "seawall itself must not be in a container of this machine: its connections would come through a bridge and be led back to it. On \
                 the host's network (docker run --network host) that does not happen, if its user there is the one named above."
                    .to_owned(),
            );
            notes.push(
                "For containers seawall must listen on their bridge's address too, such as listen = [\"0.0.0.0:3128\", \"[::]:3128\"]; where \
                 it has no IPv6 socket a client's IPv6 connection is refused, and it takes IPv4."
                    .to_owned(),
            );
        }
        Place::There(_) => notes.push(
            "These rules are for another machine than seawall's, and it must not be behind them itself. Only the nftables rules refuse \
             connections of the other IP version, which would go past."
                .to_owned(),
        ),
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn on_its_own_machine_seawall_is_left_alone() {
        for address in ["http://127.0.0.1:3128", "http://seawall.lab:3128"] {
            let plan = plan(&example::facts(address), Mode::Dns);
            example::assert_sound(&plan);
            let nft = example::text(&plan, "/etc/seawall/setup/iptables/seawall.nft");
            let own = nft.find("skuid \"seawall\" return").unwrap();
            assert!(own < nft.find("redirect to :3128").unwrap(), "{nft}");
            for version in ["v4", "v6"] {
                let rules = example::text(&plan, &format!("/etc/seawall/setup/iptables/rules.{version}"));
                let own = rules.find("--uid-owner seawall -j RETURN").unwrap();
                assert!(own < rules.find("REDIRECT --to-ports 3128").unwrap(), "{rules}");
                assert!(rules.contains("-i br-+ "), "{rules}");
            }
            assert_eq!(example::text(&plan, "/usr/local/share/ca-certificates/seawall.crt"), example::PEM);
            assert!(
                plan.notes.iter().any(|note| note.contains("--network host")),
                "in a bridged container it would loop"
            );
            assert!(plan.undo[0].contains("nft delete table inet seawall"));
        }
    }

    #[test]
    fn elsewhere_the_other_family_does_not_go_past() {
        for (address, verdict, other, absent) in [
            ("http://192.0.2.7:3128", "dnat ip to 192.0.2.7:3128", "nfproto ipv6", "rules.v6"),
            ("http://[2001:db8::7]:3128", "dnat ip6 to [2001:db8::7]:3128", "nfproto ipv4", "rules.v4"),
        ] {
            let plan = plan(&example::facts(address), Mode::Dns);
            example::assert_sound(&plan);
            let nft = example::text(&plan, "/etc/seawall/setup/iptables/seawall.nft");
            assert!(nft.contains(verdict) && nft.contains(other) && !nft.contains("skuid"), "{nft}");
            assert!(!plan.files.iter().any(|file| file.path.ends_with(absent)));
        }
    }
}

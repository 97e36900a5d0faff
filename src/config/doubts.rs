//! What is valid and seldom meant.

use ipnet::IpNet;

use super::Config;

/// A client has so many connections at once as soon as it pulls an image of some layers.
const OF_A_PULL: usize = 6;

impl Config {
    /// What somebody who wrote this may not have meant, a sentence each.
    pub fn doubts(&self) -> Vec<String> {
        let proxy = &self.proxy;
        let of_everybody = |nets: &[IpNet]| nets.iter().find(|net| net.prefix_len() == 0).copied();
        let open = of_everybody(&proxy.allow).filter(|_| proxy.users.is_none()).map(|net| {
            format!(
                "clients.allow has {net} and there is no clients.users_file: an open proxy to all that [tunnel] allows"
            )
        });
        let claimed = of_everybody(&proxy.proxy_protocol_from).map(|net| {
            format!("clients.proxy_protocol_from has {net}: every client may say that it is another; name the load balancers")
        });
        let few = (proxy.max_per_client < OF_A_PULL).then(|| {
            let most = proxy.max_per_client;
            format!("a client may have {most} connections (clients.max_per_client): a pull opens about {OF_A_PULL} at once, and those too many are closed")
        });
        [open, claimed, few].into_iter().flatten().collect()
    }
}

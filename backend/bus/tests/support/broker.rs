//! A RabbitMQ broker of the test's own: Debian's package, in a temporary folder, on free ports, with a
//! port mapper (epmd) of its own; both end with it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;

const BIN: &str = "/usr/lib/rabbitmq/bin";

pub struct Broker {
    dir: TempDir,
    port: u16,
    tls_port: Option<u16>,
    epmd_port: u16,
    dist_port: u16,
    epmd: Child,
    server: Option<Child>,
}

fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    held.iter()
        .map(|l| l.local_addr().expect("an address").port())
        .collect()
}

impl Broker {
    pub fn start() -> Broker {
        Self::start_with(|_| String::new(), false)
    }

    /// `config` is given the folder; with `tls` the port for it is in the configuration.
    pub fn start_with(config: impl FnOnce(&Path) -> String, tls: bool) -> Broker {
        let dir = tempfile::Builder::new()
            .prefix("cumulet-rabbit-")
            .tempdir()
            .expect("a folder");
        let ports = free_ports(4);
        let tls_port = tls.then_some(ports[3]);
        let mut text = config(dir.path());
        if let Some(port) = tls_port {
            text.push_str(&format!("listeners.ssl.1 = 127.0.0.1:{port}\n"));
        }
        fs::write(dir.path().join("rabbitmq.conf"), text).expect("written");
        fs::write(dir.path().join("plugins"), "[].\n").expect("written");
        let epmd = Command::new("epmd")
            .args(["-address", "127.0.0.1", "-port", &ports[1].to_string()])
            .env("HOME", dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("epmd (rabbitmq-server is installed by scripts/setup-host --test)");
        let mut broker = Broker {
            port: ports[0],
            epmd_port: ports[1],
            dist_port: ports[2],
            tls_port,
            dir,
            epmd,
            server: None,
        };
        broker.run();
        broker
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(format!("{BIN}/{name}"));
        let dir = self.dir.path();
        command
            .env("HOME", dir)
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("cumulet{}@localhost", self.port))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", dir.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", dir.join("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", dir.join("none"))
            .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq"))
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1}",
            );
        command
    }

    /// Starts the server, and returns when it serves.
    pub fn run(&mut self) {
        let mut command = self.tool("rabbitmq-server");
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let server = self.server.insert(command.spawn().expect("the server"));
        let mut lines = BufReader::new(server.stdout.take().expect("a pipe")).lines();
        let mut said = String::new();
        loop {
            // It ends, and with it its output, when it can't start.
            let Some(Ok(line)) = lines.next() else {
                panic!("the broker does not start: {said}")
            };
            if line.contains("completed with") {
                break;
            }
            said.push_str(&line);
            said.push('\n');
        }
        std::thread::spawn(move || lines.for_each(drop));
    }

    pub fn ctl(&self, args: &[&str]) -> Output {
        self.tool("rabbitmqctl").args(args).output().expect("rabbitmqctl")
    }

    pub fn must(&self, args: &[&str]) -> String {
        let done = self.ctl(args);
        let (out, err) = (
            String::from_utf8_lossy(&done.stdout).into_owned(),
            String::from_utf8_lossy(&done.stderr),
        );
        assert!(done.status.success(), "{args:?}: {out} {err}");
        out
    }

    /// A virtual host with a user of the control plane; its URL.
    pub fn vhost(&self, name: &str) -> String {
        self.must(&[
            "eval",
            &format!(
                r#"rabbit_vhost:add(<<"{name}">>, <<"t">>), rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"t">>)."#
            ),
        ]);
        self.url(name, "guest", "guest")
    }

    pub fn url(&self, vhost: &str, user: &str, password: &str) -> String {
        format!("amqp://{user}:{password}@127.0.0.1:{}/{vhost}", self.port)
    }

    pub fn tls_url(&self, vhost: &str) -> String {
        let port = self.tls_port.expect("started with TLS");
        format!("amqps://guest:guest@localhost:{port}/{vhost}")
    }

    pub fn add_user(&self, vhost: &str, user: &str, password: &str, may: [&str; 3]) {
        self.must(&["add_user", user, password]);
        self.must(&["set_permissions", "-p", vhost, user, may[0], may[1], may[2]]);
    }

    pub fn delete_queue(&self, vhost: &str, name: &str) {
        self.must(&["delete_queue", "-p", vhost, name]);
    }

    /// The Erlang machine under the server's shell script.
    fn machine(&self) -> Option<i32> {
        let shell = self.server.as_ref()?.id();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// As if its power went.
    pub fn kill(&mut self) {
        self.signal("KILL");
    }

    /// In good order.
    pub fn stop(&mut self) {
        self.signal("TERM");
    }

    fn signal(&mut self, name: &str) {
        let Some(pid) = self.machine() else { return };
        let killed = Command::new("kill")
            .args([&format!("-{name}"), &pid.to_string()])
            .status();
        assert!(killed.expect("kill").success());
        if let Some(mut server) = self.server.take() {
            drop(server.wait());
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        drop(self.epmd.kill());
        drop(self.epmd.wait());
    }
}

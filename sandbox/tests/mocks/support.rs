//! HTTP over bare sockets, and a function that is a few lines of shell.

use std::time::Duration;

use sandbox::mock::function::FunctionBuilder;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Sends one request over a connection of its own and reads until the peer closes it.
pub async fn exchange(url: &str, request_line: &str, headers: &str, body: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await?;
    let head = format!(
        "{request_line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    // The peer may have answered and hung up before all of a large body is written; its answer is what counts.
    let _ = stream.write_all(body).await;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

pub fn body_of(reply: &str) -> &str {
    reply.split_once("\r\n\r\n").unwrap().1
}

/// The value of `authorization` of a request that is signed for a service.
pub fn authorization(service: &str) -> String {
    let scope = format!("20261123/eu-central-1/{service}/aws4_request");
    format!("authorization: AWS4-HMAC-SHA256 Credential=x/{scope}, SignedHeaders=host, Signature=0\r\n")
}

/// A function that does `body`, in bash, with each event: `answer TEXT` answers it, and `$event` is the event.
pub fn function(body: &str) -> FunctionBuilder {
    let script = format!(
        r#"
LC_ALL=C
host=${{AWS_LAMBDA_RUNTIME_API%:*}} port=${{AWS_LAMBDA_RUNTIME_API#*:}}
call() {{
  exec 3<>"/dev/tcp/$host/$port"
  printf '%s /2018-06-01/runtime/invocation/%s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n' "$1" "$2" >&3
  printf 'content-length: %s\r\n\r\n%s' "${{#3}}" "$3" >&3
  cat <&3
}}
answer() {{ call POST "$id/response" "$1"; }}
while reply=$(call GET next ''); do
  id=${{reply#*lambda-runtime-aws-request-id: }}
  id=${{id%%$'\r'*}}
  event=${{reply#*$'\r\n\r\n'}}
  {body}
done
"#
    );
    FunctionBuilder::new("/bin/bash").arg("-c").arg(&script).timeout(Duration::from_secs(5))
}

/// Waits for something that must come soon.
pub async fn soon<T>(wait: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(5), wait).await.expect("nothing came")
}

// What a Node.js developer would write: tenpay closes the order, the AWS SDK reads the secret once per process. The loop
// at the end is the least that a runtime does, less than Lambda's own.
import http from 'node:http';
import { GetSecretValueCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager';
import Payment from 'tenpay';

const secrets = new SecretsManagerClient({});
const [endpoint] = process.env.WECHAT_PAY_ENDPOINTS.split(',');
let payment;

async function connect() {
  const { SecretString } = await secrets.send(
    new GetSecretValueCommand({ SecretId: process.env.WECHAT_PAY_SECRET_ID }),
  );
  const { appid, mch_id, api_key } = JSON.parse(SecretString);
  const connected = new Payment({ appid, mchid: mch_id, partnerKey: api_key });
  connected.urls.closeorder = `${endpoint}/pay/closeorder`;
  return connected;
}

// tenpay verifies the reply's signature, and throws for every `result_code` but SUCCESS.
async function handle(event) {
  payment ??= await connect();
  const reply = await payment.closeOrder({ sub_mch_id: event.sub_mch_id, out_trade_no: event.out_trade_no });
  return { returnCode: reply.return_code, resultCode: reply.result_code };
}

const agent = new http.Agent({ keepAlive: true });
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');

function runtime(method, path, body = '') {
  return new Promise((resolve, reject) => {
    const options = { host, port, agent, method, path: `/2018-06-01/runtime/invocation/${path}` };
    const request = http.request(options, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => resolve({ headers: response.headers, body: Buffer.concat(chunks).toString() }));
      response.on('error', reject);
    });
    request.on('error', reject);
    request.end(body);
  });
}

for (;;) {
  const { headers, body } = await runtime('GET', 'next');
  const id = headers['lambda-runtime-aws-request-id'];
  try {
    await runtime('POST', `${id}/response`, JSON.stringify(await handle(JSON.parse(body))));
  } catch (error) {
    await runtime('POST', `${id}/error`, JSON.stringify({ errorType: error.name, errorMessage: error.message }));
  }
}

/** Mocks of the services around the relay, all on loopback. checks/test_relay.py starts the rest. */
'use strict'

const assert = require('node:assert')
const { createHash } = require('node:crypto')
const { once } = require('node:events')
const http = require('node:http')

/** The key of WeChat Pay's own signing example, which the sandbox uses, too. */
const API_KEY = '192006250b4c09247ec02edce69f6a2d'
const SUB_MCH_ID = '1900000109'

/** The user who calls the cloud function. */
const OPENID = 'oUpF8uMuAJO_M2pxb1Q9zNjWeS6o'

/** A variable that checks/test_relay.py sets. */
function given (name) {
  assert.ok(process.env[name], `${name} is not set: run checks/test_relay.py, which starts what these tests need`)
  return process.env[name]
}

/** The relay, loaded anew in an environment of these variables. */
function relay (env) {
  for (const name of Object.keys(process.env)) {
    if (/^(AWS|CLOSE_ORDER)_/.test(name)) delete process.env[name]
  }
  Object.assign(process.env, {
    CLOSE_ORDER_FUNCTION: 'close-order',
    CLOSE_ORDER_REGION: 'eu-central-1',
    AWS_ACCESS_KEY_ID: 'AKIAEXAMPLE',
    AWS_SECRET_ACCESS_KEY: 'the-secret-access-key',
    ...env
  })
  const path = require.resolve('../close-order')
  delete require.cache[path]
  return require(path)
}

/** The relay in front of the real function of a service provider, behind the sandbox's Invoke API. */
const realFunction = () => relay({ AWS_ENDPOINT_URL_LAMBDA: given('RELAY_TEST_LAMBDA') })

/** The same of an ordinary merchant. */
const merchantFunction = () => relay({ AWS_ENDPOINT_URL_LAMBDA: given('RELAY_TEST_LAMBDA_MERCHANT') })

let orders = 0

/** An unused order number; its first word selects the sandbox's scenario. */
const order = (word = 'RELAY') => `${word}-${Date.now()}-${orders++}`

/** Starts a server whose handler gets the request's whole body. It ends with the process. */
async function listen (handler, port = 0) {
  const server = http.createServer((request, response) => {
    const chunks = []
    request.on('data', chunk => chunks.push(chunk))
    request.on('end', () => handler(request, Buffer.concat(chunks), response))
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  // The process ends with its tests, even if connections are still open.
  server.unref()
  server.on('connection', socket => socket.unref())
  return `http://127.0.0.1:${server.address().port}`
}

const toXml = fields =>
  `<xml>${Object.entries(fields).map(([name, value]) => `<${name}><![CDATA[${value}]]></${name}>`).join('')}</xml>`

const fromXml = xml => Object.fromEntries(
  [...xml.matchAll(/<(\w+)>(?:<!\[CDATA\[([^\]]*)\]\]>|([^<]*))<\/\1>/g)].map(([, name, cdata, text]) => [name, cdata ?? text])
)

function signed (fields) {
  const named = Object.keys(fields).filter(name => fields[name] !== '').sort().map(name => `${name}=${fields[name]}`)
  const sign = createHash('md5').update([...named, `key=${API_KEY}`].join('&')).digest('hex').toUpperCase()
  return { ...fields, sign }
}

/**
 * WeChat Pay: the sandboxes' gateways, and in front of them a proxy that records each request and reply of an order.
 *
 * `replies` has the reply to each closeorder by out_trade_no, as fields; `requests` and `queries` the request of each
 * closeorder and orderquery; `says(order, fields)` sets the reply to an order's closeorder instead of the sandbox's.
 */
async function gateway () {
  const replies = {}
  const requests = {}
  const queries = {}
  const scripted = {}
  await listen(async (request, body, response) => {
    const fields = fromXml(body.toString())
    const number = fields.out_trade_no
    const isQuery = request.url === '/pay/orderquery'
    ;(isQuery ? queries : requests)[number] = fields
    let xml
    if (scripted[number] && !isQuery) {
      xml = toXml(scripted[number](fields))
    } else {
      try {
        const sandbox = given(fields.sub_mch_id ? 'RELAY_TEST_SANDBOX' : 'RELAY_TEST_SANDBOX_MERCHANT')
        const forwarded = await fetch(sandbox + request.url, { method: request.method, body })
        xml = await forwarded.text()
      } catch {
        response.destroy()
        return
      }
    }
    if (!isQuery) replies[number] = fromXml(xml)
    response.end(xml)
  }, Number(given('RELAY_TEST_GATEWAY_PORT')))
  const says = (outTradeNo, fields) => { scripted[outTradeNo] = fields }
  return { replies, requests, queries, says }
}

/** The fields of a multipart body. */
function fromMultipart (request, body) {
  const boundary = /boundary=(.+)$/.exec(request.headers['content-type'])[1]
  const parts = body.toString('latin1').split(`--${boundary}`).slice(1, -1)
  return Object.fromEntries(parts.map(part => {
    const [head, ...rest] = part.split('\r\n\r\n')
    return [/name="([^"]+)"/.exec(head)[1], Buffer.from(rest.join('\r\n\r\n').slice(0, -2), 'latin1').toString()]
  }))
}

/**
 * WeChat's cloud, as wx-server-sdk sees it: `cloudPay.closeOrder` gets the replies of the gateway above, a database's
 * query those of `documents` that match it, and an update succeeds, its document's id being added to `updated`. The SDK is led here by its own settings in
 * TCB_CONTEXT_CNFG (2.0.2 looks at the URL only when TCB_SDK_GRAY_0 is set, too); none of its code is replaced.
 */
async function wechatCloud (replies, documents = [], updated = []) {
  const seen = []
  const url = await listen((request, body, response) => {
    const isPay = request.headers['content-type'].startsWith('multipart/form-data')
    const asked = isPay ? fromMultipart(request, body) : JSON.parse(body.toString())
    seen.push(asked)
    response.setHeader('content-type', isPay ? 'application/octet-stream' : 'application/json')
    response.end(JSON.stringify(isPay ? replies(JSON.parse(asked.requestData), asked) : database(asked)))
  })
  function database ({ action, query }) {
    const wanted = Object.entries(JSON.parse(query))
    if (action !== 'database.getDocument') {
      updated.push(...wanted.filter(([name]) => name === '_id').map(([, id]) => id))
      return { requestId: '1', data: { updated: 1, data: '[]' } }
    }
    const found = documents.filter(document => wanted.every(([name, value]) => document[name] === value))
    return { requestId: '1', data: { list: found.map(document => JSON.stringify(document)) } }
  }
  Object.assign(process.env, {
    TCB_CONTEXT_CNFG: JSON.stringify({ URL: `${url}/admin`, TCB_SDK_GRAY_0: true }),
    TENCENTCLOUD_SECRETID: 'none',
    TENCENTCLOUD_SECRETKEY: 'none',
    TCB_ENV: 'relay-test',
    WX_CONTEXT_KEYS: 'WX_OPENID',
    WX_OPENID: OPENID
  })
  return seen
}

/** Lambda: `answers` gives the status, headers and body of the response to each request, by its number from 1. */
async function lambda (answers) {
  const calls = []
  const url = await listen((request, body, response) => {
    calls.push({ path: request.url, headers: request.headers, event: JSON.parse(body.toString()) })
    const answer = answers(calls.length)
    if (answer === 'hang') return
    if (answer === 'reset') return request.socket.resetAndDestroy()
    response.writeHead(answer.status ?? 200, { 'x-amzn-requestid': 'b6a3c3f0', ...answer.headers })
    response.end(typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body))
  })
  return { calls, relay: env => relay({ AWS_ENDPOINT_URL_LAMBDA: url, ...env }) }
}

module.exports = {
  OPENID, SUB_MCH_ID, gateway, given, lambda, listen, merchantFunction, order, realFunction, relay, signed, wechatCloud
}

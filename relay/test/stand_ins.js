/** What stands around the relay in the tests, all on loopback. checks/relay.sh starts the rest. */
'use strict'

const assert = require('node:assert')
const { createHash } = require('node:crypto')
const { once } = require('node:events')
const http = require('node:http')

/** WeChat Pay's own signing example, which the sandbox's service provider uses too. */
const API_KEY = '192006250b4c09247ec02edce69f6a2d'
const SUB_MCH_ID = '1900000109'

/** A variable that checks/relay.sh sets. */
function given (name) {
  assert.ok(process.env[name], `${name} is not set: run checks/relay.sh, which starts what these tests need`)
  return process.env[name]
}

/** The relay anew, in an environment of these variables. */
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

/** The relay in front of the real function, which cargo-lambda's emulator runs. */
const realFunction = () => relay({ AWS_ENDPOINT_URL_LAMBDA: given('RELAY_TEST_LAMBDA') })

let orders = 0

/** An order number that nobody has used; the sandbox's gateway deals with it as its first word says. */
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
  // The process ends with its tests; what only waits for more requests is no reason to stay.
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
 * WeChat Pay: the sandbox's gateway, and in between what writes down each request and reply of an order.
 *
 * `replies` has every reply by out_trade_no, as fields; `requests` every request; `says(order, fields)` sets what an
 * order is answered instead of what the sandbox would say.
 */
async function gateway () {
  const replies = {}
  const requests = {}
  const scripted = {}
  await listen(async (request, body, response) => {
    const asked = fromXml(body.toString())
    requests[asked.out_trade_no] = asked
    let xml
    if (scripted[asked.out_trade_no]) {
      xml = toXml(scripted[asked.out_trade_no](asked))
    } else {
      try {
        const answer = await fetch(given('RELAY_TEST_SANDBOX') + request.url, { method: request.method, body })
        xml = await answer.text()
      } catch {
        response.destroy()
        return
      }
    }
    replies[asked.out_trade_no] = fromXml(xml)
    response.end(xml)
  }, Number(given('RELAY_TEST_GATEWAY_PORT')))
  const says = (outTradeNo, fields) => { scripted[outTradeNo] = fields }
  return { replies, requests, says }
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
 * WeChat's cloud, to wx-server-sdk: answers `cloudPay.closeOrder` with the replies of the gateway above, and a
 * database's update. The SDK is led here by its own settings in TCB_CONTEXT_CNFG (2.0.2 looks at the URL only
 * when TCB_SDK_GRAY_0 is set, too); none of its code is replaced.
 */
async function wechatCloud (replies) {
  const seen = []
  const url = await listen((request, body, response) => {
    const isPay = request.headers['content-type'].startsWith('multipart/form-data')
    const asked = isPay ? fromMultipart(request, body) : JSON.parse(body.toString())
    seen.push(asked)
    const answer = isPay ? replies(JSON.parse(asked.requestData), asked) : { requestId: '1', data: { updated: 1, data: '[]' } }
    response.setHeader('content-type', isPay ? 'application/octet-stream' : 'application/json')
    response.end(JSON.stringify(answer))
  })
  Object.assign(process.env, {
    TCB_CONTEXT_CNFG: JSON.stringify({ URL: `${url}/admin`, TCB_SDK_GRAY_0: true }),
    TENCENTCLOUD_SECRETID: 'none',
    TENCENTCLOUD_SECRETKEY: 'none',
    TCB_ENV: 'relay-test'
  })
  return seen
}

/** Lambda, answering as it is told: a function of the request number and event that returns status, headers, body. */
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

module.exports = { SUB_MCH_ID, gateway, given, lambda, order, realFunction, relay, signed, wechatCloud }

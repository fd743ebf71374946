/**
 * Code written for CloudPay runs unchanged but for the one require: every file of callers/ returns with the relay what
 * it returns with the real wx-server-sdk. The READMEs' example does as its text says.
 */
'use strict'

const assert = require('node:assert')
const { createHash } = require('node:crypto')
const fs = require('node:fs')
const Module = require('node:module')
const path = require('node:path')
const { before, test } = require('node:test')
const {
  OPENID, SUB_MCH_ID, gateway, lambda, listen, merchantFunction, order, realFunction, relay, wechatCloud
} = require('./mocks')

const RELAY = path.resolve(__dirname, '../close-order')
const REQUIRED = /require\((['"])(?:wx-server-sdk|\.\/close-order)\1\)/

/** The shop's own records of its orders, and which of them were updated. */
const documents = []
const updated = []

let wechatPay
before(async () => {
  wechatPay = await gateway()
  await wechatCloud(order => wechatPay.replies[order.out_trade_no], documents, updated)
})

/** The module in this source, with another module for its one require. */
function load (source, name, required) {
  assert.strictEqual(source.split(REQUIRED).length, 3, `${name} has one require`)
  return compiled(source.replace(REQUIRED, `require(${JSON.stringify(required)})`), name)
}

function compiled (source, name) {
  const loaded = new Module(name, module)
  loaded.paths = module.paths
  loaded._compile(source, name)
  return loaded.exports
}

/** Asserts that `actual` has whatever `expected` has. */
function holds (actual, expected, at) {
  if (Object(expected) !== expected) return assert.strictEqual(actual, expected, at)
  for (const key of Object.keys(expected)) holds(actual[key], expected[key], `${at}.${key}`)
}

const sources = fs.readdirSync(path.join(__dirname, 'callers')).map(name =>
  [name, fs.readFileSync(path.join(__dirname, 'callers', name), 'utf8')])
const readmes = ['README.md', 'README.zh-CN.md'].map(name =>
  [name, fs.readFileSync(path.resolve(__dirname, '..', name), 'utf8')])

assert.ok(sources.length >= 10)

for (const [name, source] of sources) {
  test(`${name} does with the relay what it does with wx-server-sdk`, async () => {
    for (const word of ['RELAY', 'ORDERPAID', 'ORDERCLOSED', 'FAIL']) {
      realFunction() // sets the environment
      const orderNo = order(word)
      if (word === 'FAIL') wechatPay.says(orderNo, () => ({ return_code: 'FAIL', return_msg: 'appid不存在' }))
      const event = {
        action: 'close',
        mchId: SUB_MCH_ID,
        orderNo,
        sub_mch_id: SUB_MCH_ID,
        out_trade_no: orderNo,
        userInfo: { appId: 'wx8888888888888888', openId: 'o1' },
        tcbContext: {}
      }
      // Passed on, it would be the merchant who signs.
      if (!source.includes('mchId')) delete event.mchId
      const ours = await load(source, name, RELAY).main({ ...event }, {})
      assert.ok(wechatPay.replies[orderNo], 'closeorder was called')
      const theirs = await load(source, name, 'wx-server-sdk').main({ ...event }, {})
      holds(ours, theirs, `${name} ${word}`)
    }
  })
}

for (const [name, text] of readmes) {
  const [example, later, ...more] = [...text.matchAll(/```js\n(.*?)```/gs)].map(([, source]) => source)

  test(`${name}: the example returns the outcome of the caller's own order`, async () => {
    assert.deepStrictEqual(more, [])
    updated.length = 0
    for (const [word, outcome] of [['RELAY', 'closed'], ['ORDERCLOSED', 'closed'], ['ORDERPAID', 'paid'], ['USERPAYING', 'open']]) {
      merchantFunction() // sets the environment
      const outTradeNo = order(word)
      documents.push({ _id: `id-${outTradeNo}`, _openid: OPENID, outTradeNo })
      const returned = await load(example, name, RELAY).main({ orderId: `id-${outTradeNo}` }, {})
      assert.deepStrictEqual(returned, { outcome })
      assert.ok(wechatPay.queries[outTradeNo], 'the outcome is proved by a query')
      assert.deepStrictEqual(updated.splice(0), outcome === 'closed' ? [`id-${outTradeNo}`] : [])
    }
  })

  test(`${name}: the example marks nothing as closed that is not confirmed`, async () => {
    const stub = await lambda(() => ({ body: { returnCode: 'SUCCESS', errCode: 0, outcome: 'closed', confirmed: false } }))
    stub.relay()
    documents.push({ _id: 'unconfirmed', _openid: OPENID, outTradeNo: 'A1' })
    await load(example, name, RELAY).main({ orderId: 'unconfirmed' }, {})
    assert.deepStrictEqual(updated, [])
  })

  test(`${name}: the example for later sends one order with its time`, async () => {
    const sent = []
    const endpoint = await listen((request, body, response) => {
      sent.push(JSON.parse(body.toString()))
      response.end(JSON.stringify({ MessageId: '1', MD5OfMessageBody: createHash('md5').update(sent.at(-1).MessageBody).digest('hex') }))
    })
    relay({ AWS_ENDPOINT_URL_SQS: endpoint, CLOSE_ORDER_QUEUE_URL: `${endpoint}/123456789012/orders` }) // sets the environment
    for (const [minutes, delay] of [[5, 300], [15, 900], [120, 900]]) {
      const began = Date.now()
      await compiled(later, name).closeLater('A1', minutes)
      const { QueueUrl, DelaySeconds, MessageBody } = sent.at(-1)
      assert.deepStrictEqual([QueueUrl, DelaySeconds], [process.env.CLOSE_ORDER_QUEUE_URL, delay])
      const { close_at: closeAt, ...event } = JSON.parse(MessageBody)
      assert.deepStrictEqual(event, { out_trade_no: 'A1' })
      assert.match(closeAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
      const late = Date.parse(closeAt) - began - minutes * 60000
      assert.ok(late >= 0 && late < 10000)
    }
    assert.strictEqual(sent.length, 3)
  })

  test(`${name}: the example closes nobody else's order, whatever the event says`, async () => {
    merchantFunction()
    const outTradeNo = order()
    documents.push({ _id: `id-${outTradeNo}`, _openid: 'somebody-else', outTradeNo })
    const event = { orderId: `id-${outTradeNo}`, out_trade_no: outTradeNo, outTradeNo, _openid: 'somebody-else' }
    await assert.rejects(load(example, name, RELAY).main(event, {}))
    assert.strictEqual(wechatPay.requests[outTradeNo], undefined)
  })

  test(`${name} installs what is tested`, () => {
    const { dependencies, devDependencies } = require('../package.json')
    const named = Object.fromEntries([...text.matchAll(/"(@aws-sdk\/[\w-]+)": "([^"]+)"/g)].map(([, sdk, version]) => [sdk, version]))
    assert.deepStrictEqual(named, { ...dependencies, '@aws-sdk/client-sqs': devDependencies['@aws-sdk/client-sqs'] })
  })
}

test('both READMEs have the same code, comments aside', () => {
  const code = text => [...text.matchAll(/^ *```\w+\n(.*?)^ *```$/gms)].map(([block]) => block.replace(/ *(\/\/|#) .*$/gm, ''))
  const [english, chinese] = readmes.map(([, text]) => code(text))
  assert.ok(english.length >= 5)
  assert.deepStrictEqual(chinese, english)
})

test('the rest of wx-server-sdk is wx-server-sdk', () => {
  const sdk = require('wx-server-sdk')
  const cloud = realFunction()
  for (const name of Object.keys(sdk).filter(name => name !== 'cloudPay')) {
    assert.ok(name in cloud)
    assert.strictEqual(cloud[name], sdk[name], name)
  }
  assert.strictEqual(cloud.closeOrder, cloud.cloudPay.closeOrder)
})

test('CloudPay\'s other calls go to CloudPay', async () => {
  const cloud = realFunction()
  cloud.init()
  wechatPay.replies.query = { return_code: 'SUCCESS', trade_state: 'NOTPAY' }
  for (const cloudPay of [cloud.cloudPay, cloud.cloudPay({ appid: 'wx8888888888888888' })]) {
    const reply = await cloudPay.queryOrder({ outTradeNo: 'query' })
    assert.strictEqual(reply.tradeState, 'NOTPAY')
    assert.strictEqual(reply.errMsg, 'cloudPay.queryOrder:ok')
    assert.strictEqual(cloudPay.closeOrder, cloud.closeOrder)
  }
})

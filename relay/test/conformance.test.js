/**
 * The real wx-server-sdk, its first version with CloudPay and its newest, against the relay: the same replies of WeChat
 * Pay go to both.
 */
'use strict'

const assert = require('node:assert')
const { randomBytes } = require('node:crypto')
const { before, test } = require('node:test')
const { SUB_MCH_ID, gateway, lambda, order, realFunction, signed, wechatCloud } = require('./mocks')

const SDKS = { '4.0.2': 'wx-server-sdk', '2.0.2': 'wx-server-sdk-2' }

let wechatPay, seen
before(async () => {
  wechatPay = await gateway()
  seen = await wechatCloud(order => wechatPay.replies[order.out_trade_no] || { code: 'INVALID_PARAM', message: 'bad' })
})

/** What a query adds, in both spellings. */
const QUERY_FIELDS = [
  'trade_state', 'tradeState', 'trade_state_desc', 'tradeStateDesc', 'trade_type', 'tradeType', 'transaction_id',
  'transactionId', 'total_fee', 'totalFee', 'fee_type', 'feeType', 'time_end', 'timeEnd', 'attach'
]

function sdkOf (version) {
  assert.strictEqual(require(`${SDKS[version]}/package.json`).version, version)
  const sdk = require(SDKS[version])
  sdk.init({ env: sdk.DYNAMIC_CURRENT_ENV })
  return sdk
}

const signedReply = more => request => signed({
  return_code: 'SUCCESS',
  return_msg: 'OK',
  appid: request.appid,
  mch_id: request.mch_id,
  sub_mch_id: request.sub_mch_id,
  sub_appid: request.sub_appid,
  nonce_str: randomBytes(16).toString('hex'),
  ...more
})

/** Scenarios of the sandbox's gateway, and replies that it never gives. */
const REPLIES = {
  RELAY: undefined,
  ORDERPAID: undefined,
  ORDERCLOSED: undefined,
  USERPAYING: undefined,
  SIGNERROR: undefined,
  UNSIGNED: () => ({ return_code: 'FAIL', return_msg: 'appid不存在' }),
  MORE: signedReply({
    result_code: 'SUCCESS',
    result_msg: 'OK',
    coupon_id_0: '10000',
    coupon_fee_0: '1',
    coupon_count: '1',
    device_info: '013467007045764',
    fee_type2_x: 'CNY',
    a_b_c_1d: 'x'
  }),
  LESS: signedReply({ result_code: 'FAIL', err_code: 'ORDERNOTEXIST', err_code_des: '订单不存在' })
}

for (const version of Object.keys(SDKS)) {
  for (const [word, says] of Object.entries(REPLIES)) {
    test(`${word}: every field of ${version}'s result is in ours, with an equal value`, async () => {
      const outTradeNo = order(word)
      if (says) wechatPay.says(outTradeNo, says)
      const params = { sub_mch_id: SUB_MCH_ID, outTradeNo, subAppid: 'wx8888888888888888' }
      const ours = await realFunction().cloudPay.closeOrder(params)
      const theirs = await sdkOf(version).cloudPay.closeOrder(params)
      assert.ok(Object.keys(theirs).length >= 4)
      for (const [name, value] of Object.entries(theirs)) assert.strictEqual(ours[name], value, name)
      // Where wx-server-sdk overwrites WeChat Pay's own code with its errCode, ours keeps it under WeChat Pay's name.
      assert.strictEqual(theirs.errCode, 0)
      assert.strictEqual(ours.err_code, wechatPay.replies[outTradeNo].err_code)
      // Whatever else is in ours is WeChat Pay's own spelling of a field, what a query added, or named here.
      const more = ['outcome', 'confirmed', 'out_trade_no', 'outTradeNo', ...wechatPay.queries[outTradeNo] ? QUERY_FIELDS : []]
      for (const name of Object.keys(ours)) {
        assert.ok(name in theirs || name in wechatPay.replies[outTradeNo] || more.includes(name), name)
      }
    })
  }

  test(`the parameters reach us under the names that ${version} gives them`, async () => {
    const stub = await lambda(() => ({ body: { returnCode: 'SUCCESS', errCode: 0 } }))
    const { cloudPay } = stub.relay()
    for (const params of [
      { sub_mch_id: '1', out_trade_no: '2', nonce_str: '3', sub_appid: '4' },
      { subMchId: '1', outTradeNo: '2', nonceStr: '3', subAppid: '4' },
      { subMch_id: '1', out_tradeNo: '2', nonceStr: undefined, SubMchId: '1' }
    ]) {
      await cloudPay.closeOrder(params)
      await sdkOf(version).cloudPay.closeOrder(params).catch(() => {})
      assert.deepStrictEqual(stub.calls.at(-1).event, JSON.parse(seen.at(-1).requestData))
    }
  })

  test(`${version} rejects as the relay does, and calls no callbacks either`, async () => {
    const unknown = { outTradeNo: order('NEVER') }
    const rejects = async (sdk, params) => {
      const error = await sdk.cloudPay.closeOrder(params).then(() => assert.fail('it resolved'), error => error)
      assert.ok(error instanceof Error)
      assert.match(error.errMsg, /closeOrder:fail /)
      assert.notStrictEqual(error.errCode, 0)
      return error.errCode
    }
    const called = []
    const callbacks = Object.fromEntries(['success', 'fail', 'complete'].map(name => [name, () => called.push(name)]))
    for (const sdk of [sdkOf(version), realFunction()]) {
      assert.strictEqual(await rejects(sdk, unknown), -501007)
      await rejects(sdk, undefined)
      await rejects(sdk, { ...unknown, ...callbacks })
    }
    assert.deepStrictEqual(called, [])
  })
}

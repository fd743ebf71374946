/** The relay's real Lambda client in front of the real function, which closes orders in the sandbox. */
'use strict'

const assert = require('node:assert')
const { before, test } = require('node:test')
const { SUB_MCH_ID, gateway, given, merchantFunction, order, realFunction, relay } = require('./mocks')

let wechatPay
before(async () => { wechatPay = await gateway() })

test('an order is closed, and the reply has every field in both spellings', async () => {
  const outTradeNo = order()
  const reply = await realFunction().cloudPay.closeOrder({ sub_mch_id: SUB_MCH_ID, out_trade_no: outTradeNo })
  assert.strictEqual(reply.returnCode, 'SUCCESS')
  assert.strictEqual(reply.resultCode, 'SUCCESS')
  assert.strictEqual(reply.result_code, 'SUCCESS')
  assert.strictEqual(reply.errCode, 0)
  assert.strictEqual(reply.errMsg, 'cloudPay.closeOrder:ok')
  assert.deepStrictEqual([reply.outcome, reply.confirmed], ['closed', false])
  assert.strictEqual(wechatPay.requests[outTradeNo].sub_mch_id, SUB_MCH_ID)
  assert.match(wechatPay.requests[outTradeNo].nonce_str, /^.{32}$/)
})

for (const [word, outcome] of [['ORDERPAID', 'paid'], ['ORDERCLOSED', 'closed'], ['USERPAYING', 'open']]) {
  test(`${word} is a result, not an error`, async () => {
    const outTradeNo = order(word)
    const reply = await realFunction().cloudPay.closeOrder({ subMchId: SUB_MCH_ID, outTradeNo })
    assert.strictEqual(reply.returnCode, 'SUCCESS')
    assert.strictEqual(reply.resultCode, 'FAIL')
    assert.strictEqual(reply.err_code, word)
    assert.strictEqual(reply.errCodeDes, wechatPay.replies[outTradeNo].err_code_des)
    assert.ok(reply.errCodeDes)
    assert.strictEqual(reply.errCode, 0)
    assert.strictEqual(reply.outcome, outcome)
  })
}

test('confirm has the outcome proved by a query', async () => {
  for (const [word, outcome, state] of [['RELAY', 'closed', 'CLOSED'], ['ORDERPAID', 'paid', 'SUCCESS'], ['NEVERSTICKING', 'open', 'NOTPAY']]) {
    const outTradeNo = order(word)
    const reply = await realFunction().cloudPay.closeOrder({ subMchId: SUB_MCH_ID, outTradeNo, confirm: true })
    assert.deepStrictEqual([reply.outcome, reply.confirmed], [outcome, true])
    assert.deepStrictEqual([reply.trade_state, reply.tradeState], [state, state])
    assert.ok(wechatPay.queries[outTradeNo])
  }
  const outTradeNo = order()
  const reply = await realFunction().cloudPay.closeOrder({ subMchId: SUB_MCH_ID, outTradeNo, confirm: false })
  assert.deepStrictEqual([reply.outcome, reply.confirmed], ['closed', false])
  assert.strictEqual(wechatPay.queries[outTradeNo], undefined)
})

test('what confirm could not have proved is unknown', async () => {
  const outTradeNo = order('QUERYDOWN')
  const reply = await realFunction().cloudPay.closeOrder({ subMchId: SUB_MCH_ID, outTradeNo, confirm: true })
  assert.deepStrictEqual([reply.outcome, reply.confirmed, reply.err_code], ['unknown', false, 'NOTCONFIRMED'])
})

test('a mch_id is the merchant of the secret, or it rejects', async () => {
  const cloud = realFunction()
  const { mch_id: mchId } = await cloud.closeOrder({ subMchId: SUB_MCH_ID, outTradeNo: order() })
  const { outcome } = await cloud.closeOrder({ mchId, subMchId: SUB_MCH_ID, outTradeNo: order() })
  assert.strictEqual(outcome, 'closed')
  await assert.rejects(
    cloud.closeOrder({ mchId: '1900000999', subMchId: SUB_MCH_ID, outTradeNo: order() }),
    { errCode: -501007, outcome: 'not_sent', errMsg: /mch_id/ }
  )
})

test('an order whose close_at has come is closed, and before it the call rejects', async () => {
  const cloud = realFunction()
  const at = milliseconds => ({ subMchId: SUB_MCH_ID, outTradeNo: order(), closeAt: new Date(Date.now() + milliseconds).toISOString() })
  assert.strictEqual((await cloud.closeOrder(at(0))).outcome, 'closed')
  await assert.rejects(
    cloud.closeOrder(at(600e3)),
    { errCode: -501007, outcome: 'not_sent', confirmed: false, errMsg: /NotDue: \[not_sent\] / }
  )
})

test('an ordinary merchant needs no sub_mch_id, and may pass its own number as CloudPay had it', async () => {
  const plain = order()
  const reply = await merchantFunction().cloudPay.closeOrder({ out_trade_no: plain })
  assert.strictEqual(reply.outcome, 'closed')
  assert.strictEqual(wechatPay.requests[plain].sub_mch_id, undefined)
  const asBefore = order()
  const again = await merchantFunction().cloudPay.closeOrder({ sub_mch_id: reply.mch_id, out_trade_no: asBefore })
  assert.strictEqual(again.outcome, 'closed')
  assert.strictEqual(wechatPay.requests[asBefore].sub_mch_id, undefined)
  await assert.rejects(
    merchantFunction().cloudPay.closeOrder({ sub_mch_id: '1900000999', out_trade_no: order() }),
    { errCode: -501007, outcome: 'not_sent', returnMsg: /sub_mch_id 普通商户请不填/ }
  )
})

test('every mixture of spellings reaches the function, and nothing that is not the order', async () => {
  const outTradeNo = order()
  const params = {
    SubMchId: SUB_MCH_ID,
    sub_mch_id: SUB_MCH_ID,
    out_tradeNo: outTradeNo,
    nonceStr: 'abc',
    subAppid: 'wx8888888888888888',
    body: 'not an event of API Gateway',
    requestContext: {},
    Records: [],
    userInfo: { openId: 'o-secret' },
    success () {},
    sign: undefined
  }
  const asGiven = { ...params }
  const reply = await realFunction().cloudPay.closeOrder(params)
  assert.strictEqual(reply.resultCode, 'SUCCESS')
  assert.strictEqual(wechatPay.requests[outTradeNo].nonce_str, 'abc')
  assert.strictEqual(wechatPay.requests[outTradeNo].sub_appid, 'wx8888888888888888')
  assert.deepStrictEqual(params, asGiven, "the caller's object is left as it was")
})

test('a number is closed as it was written, and rejected where JavaScript has rounded it', async () => {
  const outTradeNo = Date.now() * 100
  const cloud = realFunction()
  const reply = await cloud.cloudPay.closeOrder({ sub_mch_id: Number(SUB_MCH_ID), out_trade_no: outTradeNo })
  assert.strictEqual(reply.resultCode, 'SUCCESS')
  assert.ok(wechatPay.requests[String(outTradeNo)])
  await assert.rejects(
    cloud.cloudPay.closeOrder({ sub_mch_id: SUB_MCH_ID, out_trade_no: 1217752501201407033233368018 }),
    { errCode: -501007, errMsg: /out_trade_no/ }
  )
})

test('what the function rejects is an error: nothing was sent, so nobody may take it for closed', async () => {
  const cloud = realFunction()
  const rejected = {
    'sub_mch_id is missing': [{ out_trade_no: order() }, /sub_mch_id/],
    'the spellings differ': [{ sub_mch_id: '1', subMchId: '2', out_trade_no: order() }, /two spellings/],
    'there is a wrong character': [{ sub_mch_id: SUB_MCH_ID, out_trade_no: 'a b' }, /out_trade_no/],
    'the order is too young': [{ sub_mch_id: SUB_MCH_ID, out_trade_no: order(), time_start: now() }, /five minutes/],
    'there are no parameters': [undefined, /out_trade_no/]
  }
  for (const [why, [params, errMsg]] of Object.entries(rejected)) {
    const error = await cloud.cloudPay.closeOrder(params).then(() => assert.fail(why), error => error)
    assert.ok(error instanceof Error)
    assert.deepStrictEqual([error.errCode, error.outcome, error.confirmed], [-501007, 'not_sent', false], why)
    assert.match(error.errMsg, /^cloudPay\.closeOrder:fail -501007 invalid parameters\. /)
    assert.match(error.errMsg, errMsg, why)
    assert.strictEqual(error.message, error.errMsg)
    assert.strictEqual(error.returnCode, 'FAIL')
    assert.match(error.returnMsg, /参数格式校验错误|5分钟/)
  }
})

test('a fault of the function rejects, with a number of wx-server-sdk', async () => {
  const cloud = realFunction()
  const close = word => cloud.cloudPay.closeOrder({ sub_mch_id: SUB_MCH_ID, out_trade_no: order(word) })
  await assert.rejects(close('FORGED'), { errCode: -601001, outcome: 'unknown', errMsg: /:fail -601001 system error\. ReplyInvalid: \[unknown\] / })
  await assert.rejects(close('RESET'), { errCode: -501002, outcome: 'unknown', errMsg: /:fail -501002 resource server timeout\. GatewayUnreachable: \[unknown\] / })
})

test('a function that can\'t read its secret rejects', async () => {
  const cloud = relay({ AWS_ENDPOINT_URL_LAMBDA: given('RELAY_TEST_LAMBDA_WITHOUT_SECRET') })
  await assert.rejects(
    cloud.cloudPay.closeOrder({ sub_mch_id: SUB_MCH_ID, out_trade_no: order() }),
    { errCode: -501001, outcome: 'not_sent', errMsg: /:fail -501001 resource system error\. CredentialsUnavailable: \[not_sent\] / }
  )
})

/** Beijing's time, as unifiedorder has it. */
function now () {
  return new Date(Date.now() + 8 * 3600e3).toISOString().replace(/\D/g, '').slice(0, 14)
}

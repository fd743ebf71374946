/** The relay's real Lambda client in front of a stand-in that answers as Lambda does when things go wrong. */
'use strict'

const assert = require('node:assert')
const Module = require('node:module')
const { test } = require('node:test')
const { SUB_MCH_ID, lambda, relay } = require('./stand_ins')

const ORDER = { sub_mch_id: SUB_MCH_ID, out_trade_no: 'A1' }
const CLOSED = { body: { returnCode: 'SUCCESS', resultCode: 'SUCCESS', errCode: 0, errMsg: 'cloudPay.closeOrder:ok' } }
const functionError = body => ({ headers: { 'x-amz-function-error': 'Unhandled' }, body })
const refusal = (status, name, message = 'x') => ({ status, headers: { 'x-amzn-errortype': name }, body: { message } })

/** What one call rejects with. */
async function rejection (answers, env) {
  const stub = await lambda(answers)
  const error = await stub.relay(env).cloudPay.closeOrder(ORDER).then(() => assert.fail('it resolved'), error => error)
  assert.ok(error instanceof Error)
  assert.match(error.errMsg, new RegExp(`^cloudPay\\.closeOrder:fail ${error.errCode} [a-z ]+\\. `))
  return { ...error, calls: stub.calls.length, shown: `${error.stack}${JSON.stringify(error)}` }
}

test('the call is signed, and carries the order alone', async () => {
  const { calls, relay } = await lambda(() => CLOSED)
  const cloud = relay({ CLOSE_ORDER_REGION: '', CLOSE_ORDER_FUNCTION: 'arn:aws-cn:lambda:cn-north-1:123456789012:function:x' })
  await cloud.closeOrder({ ...ORDER, userInfo: { openId: 'o' }, body: 'b' })
  assert.deepStrictEqual(calls[0].event, ORDER)
  assert.match(decodeURIComponent(calls[0].path), /^\/2015-03-31\/functions\/arn:aws-cn:lambda:cn-north-1:.*\/invocations$/)
  assert.match(calls[0].headers.authorization, /Credential=AKIAEXAMPLE\/\d+\/cn-north-1\/lambda\//, "the ARN's region")
})

test('each fault of the function has its number', async () => {
  for (const [errorType, errCode] of [
    ['CredentialsUnavailable', -501001],
    ['GatewayUnreachable', -501002],
    ['ReplyInvalid', -601001],
    ['DeadlineExceeded', -501002]
  ]) {
    const error = await rejection(() => functionError({ errorType, errorMessage: 'why; call again' }))
    assert.strictEqual(error.errCode, errCode)
    assert.match(error.errMsg, new RegExp(`${errorType}: why; call again$`))
    assert.strictEqual(error.calls, 1, 'the function has tried again already')
  }
})

test('a function that Lambda ended may have closed the order', async () => {
  for (const [body, errCode] of [
    [{ errorType: 'Sandbox.Timedout', errorMessage: 'RequestId: 1 Error: Task timed out after 28.00 seconds' }, -501002],
    [{ errorMessage: '2026-01-01 1 Task timed out after 28.00 seconds' }, -501002],
    [{ errorType: 'Runtime.ExitError', errorMessage: 'RequestId: 1 Error: signal: killed' }, -601001],
    [{ errorType: 'constructor', errorMessage: 'x' }, -601001],
    ['no JSON', -601001]
  ]) {
    const error = await rejection(() => functionError(body))
    assert.strictEqual(error.errCode, errCode)
    assert.match(error.errMsg, /the order may be closed, call again$/)
  }
})

test('a broken connection and a busy Lambda are tried again', async () => {
  const stub = await lambda(count => ['reset', refusal(429, 'TooManyRequestsException'), CLOSED][count - 1])
  assert.strictEqual((await stub.relay().cloudPay.closeOrder(ORDER)).resultCode, 'SUCCESS')
  assert.strictEqual(stub.calls.length, 3)
})

test('a Lambda that stays busy, breaks or is not there rejects after three tries', async () => {
  const busy = await rejection(() => refusal(429, 'TooManyRequestsException'))
  assert.deepStrictEqual([busy.errCode, busy.calls], [-501003, 3])
  const broken = await rejection(() => refusal(500, 'ServiceException'))
  assert.deepStrictEqual([broken.errCode, broken.calls], [-501001, 3])
  const reset = await rejection(() => 'reset')
  assert.deepStrictEqual([reset.errCode, reset.calls], [-501002, 3])
  await assert.rejects(
    relay({ AWS_ENDPOINT_URL_LAMBDA: 'http://127.0.0.1:1' }).closeOrder(ORDER),
    { errCode: -501002, errMsg: /can't be reached \(ECONNREFUSED\); the order may be closed, call again/ }
  )
})

test('no answer in time rejects in time', async () => {
  const began = Date.now()
  const error = await rejection(() => 'hang', { CLOSE_ORDER_TIMEOUT_MS: '400' })
  assert.ok(Date.now() - began < 3000)
  assert.strictEqual(error.errCode, -501002)
  assert.match(error.errMsg, /no answer within 400 ms; the order may be closed, call again$/)
})

test('what AWS refuses rejects at once, and AWS\'s words, which can hold what was signed, stay inside', async () => {
  const told = 'User arn:aws:iam::123456789012:user/x; the-secret-access-key; the-session-token'
  for (const [status, name] of [[403, 'AccessDeniedException'], [403, 'InvalidSignatureException'], [404, 'ResourceNotFoundException']]) {
    const error = await rejection(() => refusal(status, name, told), { AWS_SESSION_TOKEN: 'the-session-token' })
    assert.deepStrictEqual([error.errCode, error.calls], [-501001, 1])
    assert.match(error.errMsg, new RegExp(`Lambda answered ${status} ${name} \\(request b6a3c3f0\\)$`))
    assert.doesNotMatch(error.shown, /the-secret-access-key|the-session-token|123456789012/)
  }
})

test('an answer that is not close-order\'s rejects', async () => {
  for (const body of ['null', '[]', '"SUCCESS"', 'no JSON', '', '{"statusCode":200}']) {
    const error = await rejection(() => ({ body }))
    assert.strictEqual(error.errCode, -501009)
  }
})

test('a missing or wrong variable is named', async () => {
  for (const [name, value] of [
    ['CLOSE_ORDER_FUNCTION', ''], ['CLOSE_ORDER_REGION', ''], ['AWS_ACCESS_KEY_ID', ''], ['AWS_SECRET_ACCESS_KEY', ''],
    ['CLOSE_ORDER_TIMEOUT_MS', 'soon'], ['CLOSE_ORDER_TIMEOUT_MS', '-1'], ['CLOSE_ORDER_TIMEOUT_MS', '900000']
  ]) {
    await assert.rejects(
      relay({ [name]: value }).closeOrder(ORDER),
      { errCode: -501009, errMsg: new RegExp(`:fail -501009 resource not initialized\\. the environment variable ${name} is not`) }
    )
  }
})

test('without wx-server-sdk, code that only closes orders runs', async t => {
  const find = Module._resolveFilename
  t.mock.method(Module, '_resolveFilename', function (name, ...rest) {
    if (name !== 'wx-server-sdk') return find.call(this, name, ...rest)
    throw Object.assign(new Error("Cannot find module 'wx-server-sdk'"), { code: 'MODULE_NOT_FOUND' })
  })
  const stub = await lambda(() => CLOSED)
  const cloud = stub.relay()
  cloud.init({ env: cloud.DYNAMIC_CURRENT_ENV })
  assert.strictEqual((await cloud.cloudPay.closeOrder(ORDER)).resultCode, 'SUCCESS')
  assert.strictEqual(cloud.database, undefined)
  assert.strictEqual(cloud.cloudPay.unifiedOrder, undefined)
})

/** The relay's real Lambda client in front of a mock that responds as Lambda does when things go wrong. */
'use strict'

const assert = require('node:assert')
const Module = require('node:module')
const { test } = require('node:test')
const { SUB_MCH_ID, lambda, relay } = require('./mocks')

const ORDER = { sub_mch_id: SUB_MCH_ID, out_trade_no: 'A1' }
const CLOSED = {
  body: { outcome: 'closed', returnCode: 'SUCCESS', resultCode: 'SUCCESS', errCode: 0, errMsg: 'cloudPay.closeOrder:ok' }
}
const functionError = body => ({ headers: { 'x-amz-function-error': 'Unhandled' }, body })
const awsError = (status, name, message = 'x') => ({ status, headers: { 'x-amzn-errortype': name }, body: { message } })

/** What one call rejects with. */
async function rejection (answers, env) {
  const stub = await lambda(answers)
  const error = await stub.relay(env).cloudPay.closeOrder(ORDER).then(() => assert.fail('it resolved'), error => error)
  assert.ok(error instanceof Error)
  assert.strictEqual(error.confirmed, error.outcome === 'open')
  assert.match(error.errMsg, new RegExp(`^cloudPay\\.closeOrder:fail ${error.errCode} [a-z ]+\\. `))
  return { ...error, calls: stub.calls.length, shown: `${error.stack}${JSON.stringify(error)}` }
}

test('the call is signed, and carries the order alone', async () => {
  const { calls, relay } = await lambda(() => CLOSED)
  const cloud = relay({ CLOSE_ORDER_REGION: '', CLOSE_ORDER_FUNCTION: 'arn:aws-cn:lambda:cn-north-1:123456789012:function:x' })
  await cloud.closeOrder({ ...ORDER, userInfo: { openId: 'o' }, body: 'b' })
  assert.deepStrictEqual(calls[0].event, ORDER)
  await cloud.closeOrder({ ...ORDER, confirm: true })
  assert.deepStrictEqual(calls[1].event, { ...ORDER, confirm: true })
  const later = { ...ORDER, mch_id: '1230000109', close_at: '2026-11-28T12:30:00+08:00' }
  await cloud.closeOrder({ ...ORDER, mchId: later.mch_id, closeAt: later.close_at })
  assert.deepStrictEqual(calls[2].event, later)
  assert.match(decodeURIComponent(calls[0].path), /^\/2015-03-31\/functions\/arn:aws-cn:lambda:cn-north-1:.*\/invocations$/)
  assert.match(calls[0].headers.authorization, /Credential=AKIAEXAMPLE\/\d+\/cn-north-1\/lambda\//, "the ARN's region")
})

test("an answer is confirmed if the function says so, and a fault's only if it is open", async () => {
  for (const [said, confirmed] of [[true, true], [false, false], [undefined, false], ['true', false]]) {
    const stub = await lambda(() => ({ body: { ...CLOSED.body, confirmed: said } }))
    assert.strictEqual((await stub.relay().closeOrder(ORDER)).confirmed, confirmed)
  }
  const rejected = { returnCode: 'FAIL', returnMsg: 'x', errCode: -501007, errMsg: 'x', outcome: 'not_sent', confirmed: true }
  assert.strictEqual((await rejection(() => ({ body: rejected }))).confirmed, false)
})

test('each fault of the function has its number, and says what became of the order by the word in brackets', async () => {
  for (const [errorType, errCode] of [
    ['CredentialsUnavailable', -501001],
    ['GatewayUnreachable', -501002],
    ['ReplyInvalid', -601001],
    ['DeadlineExceeded', -501002],
    ['InternalError', -601001],
    ['UnsupportedEvent', -501007],
    ['NotDue', -501007]
  ]) {
    for (const [errorMessage, outcome] of [
      ['[unknown] why, though nothing was sent at first; call again', 'unknown'],
      ['[not_sent] why, call again', 'not_sent'],
      ['[open] why, call again', 'open'],
      ['[closed] why, call again', 'unknown'],
      ['why [not_sent] call again', 'unknown'],
      ['why; nothing was sent, call again', 'unknown']
    ]) {
      const error = await rejection(() => functionError({ errorType, errorMessage }))
      // That an order is open is what a query said.
      assert.deepStrictEqual([error.errCode, error.outcome, error.confirmed], [errCode, outcome, outcome === 'open'])
      assert.ok(error.errMsg.endsWith(`${errorType}: ${errorMessage}`))
      assert.strictEqual(error.calls, 1, 'the function has retried already')
    }
  }
})

test("cargo-lambda's emulator raises a fault with status 500", async () => {
  const body = { errorType: 'GatewayUnreachable', errorMessage: '[not_sent] why; call again' }
  const error = await rejection(() => ({ ...awsError(500, 'GatewayUnreachable'), body }))
  assert.deepStrictEqual([error.errCode, error.outcome], [-501002, 'not_sent'])
  assert.match(error.errMsg, /GatewayUnreachable: \[not_sent\] why; call again$/)
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
    assert.strictEqual(error.outcome, 'unknown')
    assert.match(error.errMsg, /the order may be closed, call again$/)
  }
})

test('a lost connection and a throttled call are retried', async () => {
  const stub = await lambda(count => ['reset', awsError(429, 'TooManyRequestsException'), CLOSED][count - 1])
  assert.strictEqual((await stub.relay().cloudPay.closeOrder(ORDER)).resultCode, 'SUCCESS')
  assert.strictEqual(stub.calls.length, 3)
})

test('a Lambda that throttles, fails or is not there rejects after three attempts', async () => {
  const throttled = await rejection(() => awsError(429, 'TooManyRequestsException'))
  assert.deepStrictEqual([throttled.errCode, throttled.outcome, throttled.calls], [-501003, 'unknown', 3])
  const failing = await rejection(() => awsError(500, 'ServiceException'))
  assert.deepStrictEqual([failing.errCode, failing.outcome, failing.calls], [-501001, 'unknown', 3])
  const reset = await rejection(() => 'reset')
  assert.deepStrictEqual([reset.errCode, reset.outcome, reset.calls], [-501002, 'unknown', 3])
  await assert.rejects(
    relay({ AWS_ENDPOINT_URL_LAMBDA: 'http://127.0.0.1:1' }).closeOrder(ORDER),
    { errCode: -501002, errMsg: /can't be reached \(ECONNREFUSED\); the order may be closed, call again/ }
  )
})

test('an AWS error after a lost connection does not say that nothing was sent', async () => {
  const error = await rejection(count => count === 1 ? 'reset' : awsError(403, 'AccessDeniedException'))
  assert.deepStrictEqual([error.errCode, error.outcome, error.calls], [-501001, 'unknown', 2])
  assert.match(error.errMsg, /the order may be closed, call again$/)
})

test('no response in time rejects in time', async () => {
  const began = Date.now()
  const error = await rejection(() => 'hang', { CLOSE_ORDER_TIMEOUT_MS: '400' })
  assert.ok(Date.now() - began < 3000)
  assert.strictEqual(error.errCode, -501002)
  assert.match(error.errMsg, /no response within 400 ms; the order may be closed, call again$/)
})

test('an AWS error rejects at once, and its text, which can hold what was signed, stays inside', async () => {
  const told = 'User arn:aws:iam::123456789012:user/x; the-secret-access-key; the-session-token'
  for (const [status, name] of [[403, 'AccessDeniedException'], [403, 'InvalidSignatureException'], [404, 'ResourceNotFoundException']]) {
    const error = await rejection(() => awsError(status, name, told), { AWS_SESSION_TOKEN: 'the-session-token' })
    assert.deepStrictEqual([error.errCode, error.outcome, error.calls], [-501001, 'not_sent', 1])
    assert.match(error.errMsg, new RegExp(`Lambda responded with ${status} ${name} \\(request b6a3c3f0\\)$`))
    assert.doesNotMatch(error.shown, /the-secret-access-key|the-session-token|123456789012/)
  }
})

test('an answer that is not close-order\'s rejects', async () => {
  for (const body of ['null', '[]', '"SUCCESS"', 'no JSON', '', '{"statusCode":200}']) {
    const error = await rejection(() => ({ body }))
    assert.deepStrictEqual([error.errCode, error.outcome], [-501009, 'not_sent'])
  }
})

test('a missing or wrong variable is named', async () => {
  for (const [name, value] of [
    ['CLOSE_ORDER_FUNCTION', ''], ['CLOSE_ORDER_REGION', ''], ['AWS_ACCESS_KEY_ID', ''], ['AWS_SECRET_ACCESS_KEY', ''],
    ['CLOSE_ORDER_TIMEOUT_MS', 'soon'], ['CLOSE_ORDER_TIMEOUT_MS', '-1'], ['CLOSE_ORDER_TIMEOUT_MS', '900000']
  ]) {
    await assert.rejects(
      relay({ [name]: value }).closeOrder(ORDER),
      { errCode: -501009, outcome: 'not_sent', errMsg: new RegExp(`:fail -501009 resource not initialized\\. the environment variable ${name} is not`) }
    )
  }
})

test('a variable with a character that its header, host or path can\'t hold is named, before anything is sent', async () => {
  const arn = 'arn:aws:lambda:eu-central-1:123456789012:function:close-order'
  for (const [name, value] of [
    ['AWS_ACCESS_KEY_ID', 'AKIAEXAMPLE\n'], ['AWS_ACCESS_KEY_ID', ' AKIAEXAMPLE'], ['AWS_ACCESS_KEY_ID', '"AKIAEXAMPLE"'],
    ['AWS_SECRET_ACCESS_KEY', 'the-secret-access-key\n'], ['AWS_SECRET_ACCESS_KEY', 'the-secret\u200b-access-key'],
    ['AWS_SESSION_TOKEN', 'the-session-token\r\n'], ['AWS_SESSION_TOKEN', '\u4ee4\u724c'],
    ['CLOSE_ORDER_REGION', 'eu-central-1\n'], ['CLOSE_ORDER_REGION', 'eu-central-1.example.com/'],
    ['CLOSE_ORDER_FUNCTION', 'close-order\n'], ['CLOSE_ORDER_FUNCTION', `${arn} `],
    ['AWS_REGION', 'eu-central-1\n']
  ]) {
    const stub = await lambda(() => CLOSED)
    const env = { ...name === 'AWS_REGION' && { CLOSE_ORDER_REGION: '' }, [name]: value }
    const error = await stub.relay(env).closeOrder(ORDER).then(() => assert.fail(`${name} is ${value}`), error => error)
    assert.deepStrictEqual([error.errCode, error.outcome, error.confirmed], [-501009, 'not_sent', false])
    assert.match(error.errMsg, new RegExp(`the environment variable ${name} holds a character`))
    assert.strictEqual(stub.calls.length, 0)
    if (/KEY|TOKEN/.test(name)) assert.ok(!`${error.stack}${JSON.stringify(error)}`.includes(value.trim()), 'it is not repeated')
  }
})

test('an ARN with a version or an alias is as good as a name', async () => {
  for (const name of ['close-order:live', 'arn:aws:lambda:eu-central-1:123456789012:function:close-order:$LATEST']) {
    const stub = await lambda(() => CLOSED)
    await stub.relay({ CLOSE_ORDER_FUNCTION: name, AWS_SECRET_ACCESS_KEY: 'a/b+c=', AWS_SESSION_TOKEN: 'd/e+f==' }).closeOrder(ORDER)
    assert.strictEqual(stub.calls.length, 1)
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

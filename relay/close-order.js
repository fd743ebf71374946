/**
 * `cloud.cloudPay.closeOrder()` for your own merchant number: the same call and the same result as CloudPay's, answered
 * by the `close-order` function on AWS Lambda, with two fields more: `outcome`, which says what became of the order, and
 * `confirmed`, which says whether a query proved it.
 *
 * Replaces wx-server-sdk in one line,
 *
 *     const cloud = require('./close-order') // was 'wx-server-sdk'
 *
 * and passes everything but `cloudPay.closeOrder` on to wx-server-sdk, if that is installed. README.md beside this file
 * says how to set it up; close-order.d.ts has the types.
 *
 * @module close-order
 */
'use strict'

const { InvokeCommand, LambdaClient } = require('@aws-sdk/client-lambda')

/** What the function reads of an order. Nothing else leaves the cloud function: no `userInfo`, no openid. */
const FIELDS = ['mch_id', 'sub_mch_id', 'out_trade_no', 'nonce_str', 'sub_appid', 'time_start', 'close_at', 'confirm']

/** As long as wx-server-sdk waits for a response. */
const TIMEOUT_MS = 15000

/** wx-server-sdk's error numbers and their texts. */
const SYSTEM_ERROR = [-501001, 'resource system error']
const TIMEOUT = [-501002, 'resource server timeout']
const TOO_MANY_REQUESTS = [-501003, 'exceed request limit']
const INVALID_PARAMETERS = [-501007, 'invalid parameters']
const NOT_INITIALIZED = [-501009, 'resource not initialized']
const WECHAT_SYSTEM_ERROR = [-601001, 'system error']

/** The faults that the function raises, by their `errorType`. */
const FAULTS = {
  CredentialsUnavailable: SYSTEM_ERROR,
  GatewayUnreachable: TIMEOUT,
  ReplyInvalid: WECHAT_SYSTEM_ERROR,
  DeadlineExceeded: TIMEOUT,
  InternalError: WECHAT_SYSTEM_ERROR,
  NotDue: INVALID_PARAMETERS,
  UnsupportedEvent: INVALID_PARAMETERS
}

/** The outcome that a fault's `errorMessage` begins with. */
const OUTCOME = /^\[(unknown|not_sent|open)\] /

/** What can stand in the header, host or path that a variable's value becomes part of. */
const VALID = {
  CLOSE_ORDER_FUNCTION: /^[\w.:$-]+$/,
  CLOSE_ORDER_REGION: /^[a-z\d-]+$/,
  AWS_REGION: /^[a-z\d-]+$/,
  AWS_ACCESS_KEY_ID: /^\w+$/,
  AWS_SECRET_ACCESS_KEY: /^[\x21-\x7e]+$/,
  AWS_SESSION_TOKEN: /^[\x21-\x7e]+$/
}

const MAYBE_CLOSED = 'the order may be closed, call again'

/**
 * Closes an unpaid order, as `cloud.cloudPay.closeOrder()` does.
 *
 * @param {import('./close-order').Order} params the order, each field in snake_case or camelCase, as with CloudPay
 * @returns {Promise<import('./close-order').Result>} WeChat Pay's reply, whatever it says, with `outcome`, what became of
 *   the order, and `confirmed`, whether a query proved it
 * @throws {import('./close-order').CloseOrderError} when there is no reply of WeChat Pay to return
 */
async function closeOrder (params) {
  const { client, functionName, timeout } = configured()
  const command = new InvokeCommand({ FunctionName: functionName, Payload: JSON.stringify(orderOf(params)) })
  let response
  try {
    response = await client.send(command, { abortSignal: AbortSignal.timeout(timeout) })
  } catch (error) {
    throw lambdaFailure(error, timeout)
  }
  const reply = parsed(response.Payload)
  if (response.FunctionError) throw functionFailure(reply)
  if (typeof reply.returnCode !== 'string') {
    throw failure(NOT_INITIALIZED, 'not_sent', 'CLOSE_ORDER_FUNCTION names another function than close-order')
  }
  if (reply.errCode !== 0) {
    const why = String(reply.errMsg).replace(/^cloudPay\.closeOrder:fail (invalid parameters: )?/, '')
    const { returnCode, returnMsg } = reply
    throw Object.assign(failure(INVALID_PARAMETERS, 'not_sent', why), { returnCode, returnMsg })
  }
  // A function of before `confirmed` has proved nothing that anybody may rely on.
  return { ...reply, confirmed: reply.confirmed === true }
}

/** The order in what a caller passes, in wx-server-sdk's spelling of names: any mixture of cases becomes snake_case. */
function orderOf (params) {
  const order = {}
  for (const [key, value] of Object.entries(Object(params))) {
    const name = key.replace(/[A-Z]/g, (letter, at) => (at ? '_' : '') + letter.toLowerCase())
    if (!FIELDS.includes(name) || value === undefined) continue
    // A number is exact up to 2^53; a longer one is another order's, and the function rejects it.
    const text = Number.isSafeInteger(value) ? String(value) : value
    // Two spellings that differ are sent as two, for the function to reject.
    const other = name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())
    order[name in order && order[name] !== text ? other : name] = text
  }
  return order
}

let configuration

/** The client, made of the cloud function's environment at the first call. */
function configured () {
  if (configuration) return configuration
  const env = process.env
  for (const name of ['CLOSE_ORDER_FUNCTION', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) {
    if (!env[name]) throw misconfigured(name, 'is not set')
  }
  const functionName = env.CLOSE_ORDER_FUNCTION
  const [, ofArn] = /^arn:[^:]+:lambda:([^:]+):/.exec(functionName) || []
  const region = env.CLOSE_ORDER_REGION || ofArn || env.AWS_REGION
  if (!region) throw misconfigured('CLOSE_ORDER_REGION', 'is not set')
  // A line feed that was pasted with a key fails in the HTTP client, and would look like a connection that was lost.
  for (const [name, valid] of Object.entries(VALID)) {
    if (name === 'AWS_REGION' && region !== env.AWS_REGION) continue
    if (env[name] && !valid.test(env[name])) {
      throw misconfigured(name, "holds a character that can't be in it, such as a line break, a blank or a quotation mark")
    }
  }
  if (!VALID.CLOSE_ORDER_REGION.test(region)) throw misconfigured('CLOSE_ORDER_FUNCTION', 'is an ARN with no valid region')
  const timeout = Number(env.CLOSE_ORDER_TIMEOUT_MS || TIMEOUT_MS)
  if (!(Number.isInteger(timeout) && timeout > 0 && timeout <= 60000)) {
    throw misconfigured('CLOSE_ORDER_TIMEOUT_MS', 'is not 1 to 60000')
  }
  const client = new LambdaClient({
    region,
    // Only these: the SDK's other sources ask fixed addresses, which are Amazon's only inside AWS.
    credentials: {
      accessKeyId: env.AWS_ACCESS_KEY_ID,
      secretAccessKey: env.AWS_SECRET_ACCESS_KEY,
      sessionToken: env.AWS_SESSION_TOKEN
    },
    // Closing is idempotent, so the SDK may retry a lost connection and a throttled call.
    maxAttempts: 3,
    requestHandler: { connectionTimeout: 2000 }
  })
  configuration = { client, functionName, timeout }
  return configuration
}

function misconfigured (variable, why) {
  return failure(NOT_INITIALIZED, 'not_sent', `the environment variable ${variable} ${why}`)
}

function parsed (payload) {
  try {
    return Object(JSON.parse(Buffer.from(payload).toString()))
  } catch {
    return {}
  }
}

/** A function error: one of close-order's own faults, or the end of its process. */
function functionFailure ({ errorType, errorMessage }) {
  if (Object.hasOwn(FAULTS, errorType)) {
    const [, outcome = 'unknown'] = OUTCOME.exec(errorMessage) || []
    return failure(FAULTS[errorType], outcome, `${errorType}: ${errorMessage}`)
  }
  const timedOut = errorType === 'Sandbox.Timedout' || /Task timed out/.test(errorMessage)
  const kind = timedOut ? TIMEOUT : WECHAT_SYSTEM_ERROR
  return failure(kind, 'unknown', `the function failed (${errorType}); ${MAYBE_CLOSED}`)
}

/** No response, or one of AWS itself. Its text is not passed on: it can hold what was signed. */
function lambdaFailure (error, timeout) {
  const { httpStatusCode: status, requestId, attempts } = error.$metadata || {}
  if (error.errorType) return functionFailure(error) // cargo-lambda's emulator: a function error has status 500
  if (error.name === 'AbortError') return failure(TIMEOUT, 'unknown', `no response within ${timeout} ms; ${MAYBE_CLOSED}`)
  if (!status) {
    return failure(TIMEOUT, 'unknown', `Lambda can't be reached (${error.code || error.name}); ${MAYBE_CLOSED}`)
  }
  const response = `Lambda responded with ${status} ${error.name} (request ${requestId})`
  const kind = status === 429 ? TOO_MANY_REQUESTS : SYSTEM_ERROR
  // An attempt before this one may have reached the function and lost only the response.
  if (status >= 500 || attempts > 1) return failure(kind, 'unknown', `${response}; ${MAYBE_CLOSED}`)
  return failure(kind, 'not_sent', response)
}

/** An error in the form of wx-server-sdk's, with what became of the order. That it is open only a query can say. */
function failure ([errCode, kind], outcome, why) {
  const error = new Error(`cloudPay.closeOrder:fail ${errCode} ${kind}. ${why}`)
  return Object.assign(error, { errCode, errMsg: error.message, outcome, confirmed: outcome === 'open' })
}

let sdk

/** wx-server-sdk; without it, just enough for code that only closes orders. */
function wxServerSdk () {
  if (sdk) return sdk
  try {
    sdk = require('wx-server-sdk')
  } catch (error) {
    if (error.code !== 'MODULE_NOT_FOUND' || !error.message.includes("'wx-server-sdk'")) throw error
    sdk = { init () {}, updateConfig () {}, DYNAMIC_CURRENT_ENV: Symbol.for('DYNAMIC_CURRENT_ENV') }
  }
  return sdk
}

/** A `cloudPay` whose `closeOrder` is ours, and whose other calls are those of the one that `original` returns. */
function cloudPayLike (original) {
  return new Proxy(function cloudPay () {}, {
    get: (_, name) => name === 'closeOrder' ? closeOrder : (original() || {})[name],
    apply: (_, self, options) => cloudPayLike(() => original()(...options))
  })
}

const own = { closeOrder, cloudPay: cloudPayLike(() => wxServerSdk().cloudPay) }

module.exports = new Proxy(own, {
  get: (_, name) => name in own ? own[name] : wxServerSdk()[name],
  has: (_, name) => name in own || name in wxServerSdk()
})

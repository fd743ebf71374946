/**
 * `cloud.cloudPay.closeOrder()` for the mini-programs of any WeChat Pay service provider (服务商): the same call, the
 * same result, answered by the `close-order` function on AWS Lambda.
 *
 * Takes the place of wx-server-sdk in one line,
 *
 *     const cloud = require('./close-order') // was 'wx-server-sdk'
 *
 * and hands everything but `cloudPay.closeOrder` on to wx-server-sdk, if that is installed. README.md beside this file
 * says how to set it up.
 *
 * @module close-order
 */
'use strict'

const { InvokeCommand, LambdaClient } = require('@aws-sdk/client-lambda')

/** What the function reads of an order. Nothing else leaves the cloud function: no `userInfo`, no openid. */
const FIELDS = ['sub_mch_id', 'out_trade_no', 'nonce_str', 'sub_appid', 'time_start']

/** As long as wx-server-sdk waits for an answer. */
const TIMEOUT_MS = 15000

/** wx-server-sdk's numbers and words for what can go wrong. */
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
  DeadlineExceeded: TIMEOUT
}

const MAYBE_CLOSED = 'the order may be closed, call again'

/**
 * Closes an unpaid order, as `cloud.cloudPay.closeOrder()` does.
 *
 * @param {object} params the order; every field also in camelCase, as with CloudPay
 * @param {string} params.sub_mch_id 子商户号
 * @param {string} params.out_trade_no 商户订单号
 * @param {string} [params.nonce_str] 随机字符串; left out, the function makes one
 * @param {string} [params.sub_appid] 小程序的 APPID
 * @param {string} [params.time_start] when the order was made, `yyyyMMddHHmmss` in Beijing time: one younger than five
 *   minutes is then refused instead of closed unreliably
 * @returns {Promise<object>} WeChat Pay's reply, whatever it says (`returnCode`, `resultCode`, `errCodeDes`, …), with
 *   `errCode: 0`; WeChat Pay's own code (`ORDERPAID`, …) is in `err_code`
 * @throws {Error} with `errCode` (never 0) and `errMsg`, when there is no reply of WeChat Pay to return. -501007: the
 *   function refused the order and nothing was sent; `returnMsg` says why in Chinese
 */
async function closeOrder (params) {
  const { client, functionName, timeout } = configured()
  const command = new InvokeCommand({ FunctionName: functionName, Payload: JSON.stringify(orderOf(params)) })
  let answer
  try {
    answer = await client.send(command, { abortSignal: AbortSignal.timeout(timeout) })
  } catch (error) {
    throw lambdaFailure(error, timeout)
  }
  const reply = parsed(answer.Payload)
  if (answer.FunctionError) throw functionFailure(reply)
  if (typeof reply.returnCode !== 'string') {
    throw failure(NOT_INITIALIZED, 'CLOSE_ORDER_FUNCTION names another function than close-order')
  }
  if (reply.errCode !== 0) {
    const why = String(reply.errMsg).replace(/^cloudPay\.closeOrder:fail (invalid parameters: )?/, '')
    throw Object.assign(failure(INVALID_PARAMETERS, why), { returnCode: reply.returnCode, returnMsg: reply.returnMsg })
  }
  return reply
}

/** The order in what a caller passes, in wx-server-sdk's spelling of names: any mixture of cases becomes snake_case. */
function orderOf (params) {
  const order = {}
  for (const [key, value] of Object.entries(Object(params))) {
    const name = key.replace(/[A-Z]/g, (letter, at) => (at ? '_' : '') + letter.toLowerCase())
    if (!FIELDS.includes(name) || value === undefined) continue
    // A number is exact up to 2^53; a longer one is some other order's, and the function refuses it.
    const text = Number.isSafeInteger(value) ? String(value) : value
    // Two spellings that differ go on as two, for the function to refuse.
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
    if (!env[name]) throw failure(NOT_INITIALIZED, `the environment variable ${name} is not set`)
  }
  const functionName = env.CLOSE_ORDER_FUNCTION
  const region = env.CLOSE_ORDER_REGION || (/^arn:[^:]+:lambda:([^:]+):/.exec(functionName) || [])[1] || env.AWS_REGION
  if (!region) throw failure(NOT_INITIALIZED, 'the environment variable CLOSE_ORDER_REGION is not set')
  const timeout = Number(env.CLOSE_ORDER_TIMEOUT_MS || TIMEOUT_MS)
  if (!(Number.isInteger(timeout) && timeout > 0 && timeout <= 60000)) {
    throw failure(NOT_INITIALIZED, 'the environment variable CLOSE_ORDER_TIMEOUT_MS is not 1 to 60000')
  }
  const client = new LambdaClient({
    region,
    // Only these: the SDK's other sources would ask addresses that are Amazon's, and somebody else's at Tencent.
    credentials: {
      accessKeyId: env.AWS_ACCESS_KEY_ID,
      secretAccessKey: env.AWS_SECRET_ACCESS_KEY,
      sessionToken: env.AWS_SESSION_TOKEN
    },
    // Closing twice is closing once, so the SDK may try again after a broken connection or a busy Lambda.
    maxAttempts: 3,
    requestHandler: { connectionTimeout: 2000 }
  })
  configuration = { client, functionName, timeout }
  return configuration
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
  if (Object.hasOwn(FAULTS, errorType)) return failure(FAULTS[errorType], `${errorType}: ${errorMessage}`)
  const ranOut = errorType === 'Sandbox.Timedout' || /Task timed out/.test(errorMessage)
  return failure(ranOut ? TIMEOUT : WECHAT_SYSTEM_ERROR, `the function failed (${errorType}); ${MAYBE_CLOSED}`)
}

/** No answer, or one of AWS itself. Its words are not passed on: they can hold what was signed. */
function lambdaFailure (error, timeout) {
  const { httpStatusCode: status, requestId } = error.$metadata || {}
  if (error.errorType) return functionFailure(error) // cargo-lambda's emulator answers a function error with status 500
  if (error.name === 'AbortError') return failure(TIMEOUT, `no answer within ${timeout} ms; ${MAYBE_CLOSED}`)
  if (!status) return failure(TIMEOUT, `Lambda can't be reached (${error.code || error.name}); ${MAYBE_CLOSED}`)
  const answered = `Lambda answered ${status} ${error.name} (request ${requestId})`
  if (status === 429) return failure(TOO_MANY_REQUESTS, `${answered}; call again`)
  return failure(SYSTEM_ERROR, status < 500 ? answered : `${answered}; ${MAYBE_CLOSED}`)
}

/** An error in the form of wx-server-sdk's. */
function failure ([errCode, kind], why) {
  const error = new Error(`cloudPay.closeOrder:fail ${errCode} ${kind}. ${why}`)
  return Object.assign(error, { errCode, errMsg: error.message })
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

/**
 * Types of close-order.js. Everything but `closeOrder` and `cloudPay` has wx-server-sdk's own types; where it is not
 * installed, they are `any` (with `skipLibCheck`).
 */
export * from 'wx-server-sdk'

/** The order to close. All values are strings, as WeChat Pay has them: a number would lose digits. */
export type Order = OrderFields & ({ out_trade_no: string } | { outTradeNo: string })

export interface OrderFields {
  /** 商户订单号: 1 to 32 of `0-9 A-Z a-z _ - | * @`. */
  out_trade_no?: string
  outTradeNo?: string
  /** 商户号 that the function signs for: required where one deployment has several merchants, else it may be there. */
  mch_id?: string
  mchId?: string
  /** 子商户号, required of a service provider (服务商); an ordinary merchant leaves it out or passes its own `mch_id`. */
  sub_mch_id?: string
  subMchId?: string
  /** The mini program's APPID, for a service provider; an ordinary merchant leaves it out or passes its own `appid`. */
  sub_appid?: string
  subAppid?: string
  /** 随机字符串; the function generates one if there is none. */
  nonce_str?: string
  nonceStr?: string
  /**
   * When the order was created, `yyyyMMddHHmmss` in Beijing time: one younger than five minutes is then rejected.
   * Without it the age is not checked.
   */
  time_start?: string
  timeStart?: string
  /**
   * When to close it, at the earliest: RFC 3339 with an offset, such as `2026-11-28T12:30:00+08:00`. Before that the call
   * rejects: an order that has to wait is sent to the queue.
   */
  close_at?: string
  closeAt?: string
  /** Have the outcome proved by a query. Pass `true` before you release stock. */
  confirm?: boolean
}

/** What became of the order. */
export type Outcome =
  /** Closed now or before. Release the stock if `confirmed`. */
  | 'closed'
  /** Paid, or paid and refunded since. Check `total_fee`. */
  | 'paid'
  /**
   * This merchant has no such order. Check the merchant first, then the number. Never release stock on it: a combined
   * order (合单) is not found either while it can be paid.
   */
  | 'not_found'
  /** Not closed; it may be paid any moment. Call again. */
  | 'open'
  /** Nobody can say, or what `confirm` asked to prove was not proved. Call again. */
  | 'unknown'
  /** WeChat Pay rejected the request itself: signature, permission, format. */
  | 'rejected'

/**
 * WeChat Pay's reply, whatever it says. Its fields are there in both spellings, as far as the reply has them, and those
 * that WeChat Pay adds later, too.
 */
export interface Result {
  outcome: Outcome
  /** Whether a query of this call proved the `outcome`. */
  confirmed: boolean
  returnCode: 'SUCCESS' | 'FAIL'
  returnMsg?: string
  result_code?: 'SUCCESS' | 'FAIL'
  resultCode?: 'SUCCESS' | 'FAIL'
  /**
   * WeChat Pay's own code (`ORDERPAID`, …), or one of the function's: `ORDERNOTCLOSED`, a query showed that the order is
   * still open; `NOTCONFIRMED`, no query proved what the close's reply said.
   */
  err_code?: string
  err_code_des?: string
  errCodeDes?: string
  out_trade_no?: string
  outTradeNo?: string
  /** The query's answer: `SUCCESS`, `NOTPAY`, `CLOSED`, …. */
  trade_state?: string
  tradeState?: string
  transaction_id?: string
  transactionId?: string
  /** What was paid, in fen (分), as a string. */
  total_fee?: string
  totalFee?: string
  /** Always 0, as with CloudPay: there is a reply. It does not say that the order is closed; `outcome` does. */
  errCode: 0
  errMsg: string
  [field: string]: string | number | boolean | undefined
}

/** What `closeOrder` rejects with: there is no reply of WeChat Pay to return. */
export interface CloseOrderError extends Error {
  /**
   * `not_sent`: nothing was sent to WeChat Pay. `open`: a query showed that the order is still open. `unknown`: it may be
   * closed.
   */
  outcome: 'not_sent' | 'open' | 'unknown'
  /** `true` with `open`, which only a query can say. */
  confirmed: boolean
  /** One of wx-server-sdk's numbers, never 0. */
  errCode: -501001 | -501002 | -501003 | -501007 | -501009 | -601001
  errMsg: string
  /** With -501007: `FAIL`, and the reason in Chinese. */
  returnCode?: 'FAIL'
  returnMsg?: string
}

/** Closes an unpaid order. Rejects with a {@link CloseOrderError}. */
export function closeOrder(order: Order): Promise<Result>

export interface CloudPay {
  closeOrder: typeof closeOrder
  /** CloudPay's other calls, of wx-server-sdk. */
  [call: string]: (params: any) => Promise<any>
}

/** CloudPay, with this `closeOrder`; called with options, as wx-server-sdk's. */
export const cloudPay: CloudPay & ((options?: object) => CloudPay)

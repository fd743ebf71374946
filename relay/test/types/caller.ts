/** Compiled by `tsc`, never run: what a TypeScript caller may write, and what its compiler has to reject. */
import cloud from '../../close-order'
import { closeOrder, type CloseOrderError, type Order, type Outcome } from '../../close-order'

cloud.init({ env: cloud.DYNAMIC_CURRENT_ENV as unknown as string })
const openid = cloud.getWXContext().OPENID

export async function main (event: { orderId: string }): Promise<{ outcome: Outcome, fee?: string }> {
  const { data } = await cloud.database().collection('orders').where({ _id: event.orderId, openid }).get() as any
  const result = await cloud.cloudPay.closeOrder({ out_trade_no: data[0].outTradeNo, confirm: true })
  switch (result.outcome) {
    case 'closed': return { outcome: result.confirmed ? result.outcome : 'unknown' }
    case 'paid': return { outcome: result.outcome, fee: result.total_fee ?? result.totalFee }
    case 'not_found':
    case 'open':
    case 'unknown':
    case 'rejected': return { outcome: result.outcome }
    default: {
      const none: never = result.outcome
      return none
    }
  }
}

// A caller written for CloudPay.
export const closed = async (mchId: string, orderNo: string): Promise<boolean> => {
  const res = await cloud.cloudPay.closeOrder({ subMchId: mchId, outTradeNo: orderNo, nonceStr: 'abc' })
  return res.returnCode === 'SUCCESS' && res.resultCode === 'SUCCESS'
}
export const later: Order = { mchId: '1230000109', out_trade_no: 'A1', close_at: '2026-11-28T12:30:00+08:00' }
export const couponOf = async (order: Order) => (await closeOrder(order)).couponId_0
export const again = (error: CloseOrderError): boolean => error.outcome === 'unknown' && error.errCode !== -501007
export const other = cloud.cloudPay({ appid: 'wx8888888888888888' }).queryOrder({ outTradeNo: 'A1' })

// @ts-expect-error: without an order number there is nothing to close
closeOrder({ sub_mch_id: '1900000109' })
// @ts-expect-error: a number would lose digits
closeOrder({ out_trade_no: 1217752501201407 })
// @ts-expect-error: JSON true or false, not a string
closeOrder({ out_trade_no: 'A1', confirm: 'true' })
// @ts-expect-error: RFC 3339 with an offset, as a string
closeOrder({ out_trade_no: 'A1', close_at: new Date() })
// @ts-expect-error: true or false
closeOrder({ out_trade_no: 'A1' }).then(({ confirmed }) => confirmed === 'true')
// @ts-expect-error: no field of an order
closeOrder({ out_trade_no: 'A1', transaction_id: '1' })
// @ts-expect-error: errCode 0 does not say that the order is closed, and no other value resolves
closeOrder({ out_trade_no: 'A1' }).then(({ errCode }) => errCode === -501002)
// @ts-expect-error: a result always has an outcome, and this is none
closeOrder({ out_trade_no: 'A1' }).then(({ outcome }) => outcome === 'CLOSED')

const cloud = require('wx-server-sdk')
cloud.init({ env: cloud.DYNAMIC_CURRENT_ENV })

async function close (mchId, orderNo) {
  let res
  try {
    res = await cloud.cloudPay.closeOrder({ out_trade_no: orderNo, sub_mch_id: mchId, nonce_str: 'abcdefgh' })
  } catch (e) {
    return 'again'
  }
  if (res.resultCode === 'SUCCESS') return 'closed'
  return res.errCodeDes === '订单已支付' ? 'paid' : 'other'
}

exports.main = async event => {
  const expired = [{ orderNo: event.orderNo }]
  const closing = expired.map(order => close(event.mchId, order.orderNo))
  return { outcomes: await Promise.all(closing) }
}

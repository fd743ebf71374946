const cloud = require('wx-server-sdk')

cloud.init({ env: cloud.DYNAMIC_CURRENT_ENV })

exports.main = async event => {
  const res = await cloud.cloudPay.closeOrder({
    sub_mch_id: event.mchId,
    out_trade_no: event.orderNo
  })
  return res
}

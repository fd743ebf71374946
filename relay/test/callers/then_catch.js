const cloud = require('wx-server-sdk')
cloud.init()

exports.main = (event, context) => cloud.cloudPay.closeOrder({
  sub_mch_id: event.mchId,
  out_trade_no: event.orderNo,
  nonce_str: Math.random().toString(36).slice(2)
}).then(res => {
  return { code: res.resultCode === 'SUCCESS' ? 0 : 1, message: res.errCodeDes || res.returnMsg }
}).catch(err => {
  return { code: -1, errCode: err.errCode, failed: /:fail/.test(err.errMsg) }
})

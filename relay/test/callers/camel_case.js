const cloud = require('wx-server-sdk')
cloud.init({ env: 'prod-1' })

exports.main = async (event) => {
  const { resultCode, returnCode, errCodeDes } = await cloud.cloudPay.closeOrder({
    subMchId: event.mchId,
    outTradeNo: event.orderNo,
    nonceStr: 'k'.repeat(32)
  })
  if (returnCode === 'SUCCESS' && resultCode === 'SUCCESS') return { errcode: 0 }
  return { errcode: -1, errmsg: errCodeDes }
}

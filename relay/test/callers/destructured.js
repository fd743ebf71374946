const { init, cloudPay, DYNAMIC_CURRENT_ENV } = require('wx-server-sdk')
init({ env: DYNAMIC_CURRENT_ENV })

const { closeOrder } = cloudPay

exports.main = async ({ mchId, orderNo }) => {
  const { returnCode, ...data } = await closeOrder({ sub_mch_id: mchId, outTradeNo: orderNo })
  return { code: returnCode === 'SUCCESS' ? 0 : 1, data }
}

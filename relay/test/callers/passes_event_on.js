const cloud = require('wx-server-sdk')
cloud.init()

exports.main = async (event) => {
  try {
    return await cloud.cloudPay.closeOrder(event)
  } catch (error) {
    return { returnCode: 'FAIL', errCode: error.errCode }
  }
}

//! EBT and createHistoryStream: which message goes to whom

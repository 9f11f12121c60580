package android.app;

public class Dialog { protected Dialog() {} }

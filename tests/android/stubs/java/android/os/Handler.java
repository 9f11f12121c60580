package android.os;

public class Handler { private Handler() {} }
